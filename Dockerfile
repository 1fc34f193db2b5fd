# kollm for GPUs: training, answers and judging. Build with: docker build -t kollm .
# Run with: docker run --gpus all -v "$PWD:/work" kollm doctor
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/kollm
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY kollm ./kollm
COPY accelerate_configs ./accelerate_configs
COPY model_cards ./model_cards
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[all]'

ENV PATH=/opt/venv/bin:$PATH
RUN useradd --create-home --uid 10001 kollm
USER 10001
WORKDIR /work
ENTRYPOINT ["kollm"]
CMD ["--help"]
