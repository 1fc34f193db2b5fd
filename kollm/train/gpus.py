"""The cards that are rented and bought: memory, matrix speed and bandwidth, from their makers' data sheets.

Matrix speed is dense bf16 with fp32 sums. A data sheet that states it with sparsity alone is halved; for GeForce cards it is
the figure of the architecture's white paper with fp32 sums, which is half of the one with fp16 sums.
"""

from __future__ import annotations

import re
from typing import NamedTuple

GIB = 2**30
_SHEET = "data sheet of the {}"


class Gpu(NamedTuple):
    """A card.

    Attributes:
        memory: bytes that a program can use.
        tflops: dense bf16 matrix TFLOP/s.
        bandwidth: GB/s of its memory.
        source: where the figures are from.
    """

    memory: float
    tflops: float
    bandwidth: float
    source: str


GPUS: dict[str, Gpu] = {
    "b200": Gpu(178.4 * GIB, 2250, 7700, _SHEET.format("HGX B200, halved")),
    "h200": Gpu(139.8 * GIB, 989, 4800, _SHEET.format("H200 SXM, halved")),
    "h100-80gb": Gpu(79.2 * GIB, 989, 3350, _SHEET.format("H100 SXM, halved")),
    "a100-80gb": Gpu(79.2 * GIB, 312, 2039, _SHEET.format("A100 SXM")),
    "a100-40gb": Gpu(39.4 * GIB, 312, 1555, _SHEET.format("A100 SXM")),
    "l40s": Gpu(44.4 * GIB, 362, 864, _SHEET.format("L40S")),
    "rtx-pro-6000": Gpu(94.9 * GIB, 503, 1792, "four times its 125.7 fp32 TFLOP/s; " + _SHEET.format("RTX PRO 6000")),
    "rtx-a6000": Gpu(47.4 * GIB, 155, 768, "white paper GA102"),
    "rtx5090": Gpu(31.3 * GIB, 209, 1792, "white paper RTX Blackwell"),
    "rtx4090": Gpu(23.6 * GIB, 165, 1008, "white paper Ada"),
    "rtx3090": Gpu(23.6 * GIB, 71, 936, "white paper GA102"),
    "l4": Gpu(22.0 * GIB, 121, 300, _SHEET.format("L4, halved")),
    "t4": Gpu(14.6 * GIB, 65, 320, _SHEET.format("T4; fp16, it has no bf16")),
}
"""Name -> card, the larger first."""


def gpu_named(device: str) -> Gpu | None:
    """The card that a device's own name means (`NVIDIA A100-SXM4-80GB`), memory aside; None for one not in the table."""
    words = device.lower().replace("rtx pro ", "rtxpro").replace("rtx ", "rtx")
    for key, gpu in GPUS.items():
        chip = key.replace("-", "") if key.startswith("rtx") else key.split("-")[0]
        if re.search(rf"\b{chip}\b", words):
            return gpu
    return None
