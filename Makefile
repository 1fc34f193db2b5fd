# make demo   set everything up and run the main job on a laptop: no key, no GPU, no network once it is set up
# make test   set everything up and run the tests
# make check  what CI runs: format, lint, types, layers, and the tests but those that `make nightly` runs
# make nightly   the tests that hold at length what others hold too
# make docs   the site, into site/
# make release TAG=v0.1.0   check, build sdist and wheel, and say what to push
# make bench  the benchmarks that need no GPU and no file of yours; the others are in benchmarks/, each with its command
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo
# What installs: `make setup INSTALL='uv pip install --python .venv/bin/python'` takes seconds where pip takes minutes.
INSTALL ?= $(BIN)/python -m pip install --quiet --disable-pip-version-check

# One worker more than cores, since tests wait for processes. A file's tests share their fixtures. xdist would begin with the files of many tests, and end with those of one long test.
WORKERS := -n $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)') --dist loadfile --no-loadscope-reorder

.PHONY: setup demo test test-portable check daily nightly lint format docs bench wheel release clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kollm needs Python 3.11 or later - set PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing kollm with every extra that needs no GPU; the first time takes some minutes."
	$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/kollm run demo -o $(DEMO)

test: setup
	$(BIN)/python -m pytest $(WORKERS)

# Without what a Mac has not: bitsandbytes. Tests that need it, a GPU or a browser say that they did not run.
test-portable:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pytest $(WORKERS) -m 'not slow and not browser and not nightly' --ignore tests/train/exact

# Side by side: mypy takes one core while the tests are imported on the other.
check: setup
	@$(MAKE) --no-print-directory -j 2 lint daily

daily: setup
	$(BIN)/python -m pytest $(WORKERS) -m 'not nightly' --durations=10

nightly: setup
	$(BIN)/python -m pytest $(WORKERS) -m nightly

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --quiet --strict

bench: setup
	$(BIN)/python -m benchmarks.translate
	$(BIN)/python -m benchmarks.kill_ledger
	$(BIN)/python benchmarks/report.py

wheel: setup
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# The tag is pushed by hand: it starts .github/workflows/release.yml, which builds the same and publishes.
release: setup
	@test "$(TAG)" = "v$$($(BIN)/python -c 'from kollm.core.version import __version__ as v; print(v)')" || { echo "TAG is '$(TAG)' and kollm/core/version.py says otherwise - make them the same."; exit 1; }
	@grep -q "^## \[$(TAG:v%=%)\] - [0-9]" CHANGELOG.md || { echo "CHANGELOG.md has no dated section [$(TAG:v%=%)] - write it."; exit 1; }
	$(MAKE) check nightly docs
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	@echo "Built and checked. Now: git tag $(TAG) && git push origin $(TAG)"

clean:
	rm -rf dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
