"""What this machine can do at most, in the terms of the operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import embedding_bag

from radnerf.benchmark.report import Values
from radnerf.benchmark.timing import measure
from radnerf.kernels.mlp.cpu import matrix_dtype

MATMULS = ("ceiling.matmul_float32_gflops", "ceiling.matmul_16bit_gflops")
READS = "ceiling.table_reads_millions_per_s"
COPY = "ceiling.copy_gb_per_s"

ROWS = 1 << 16  # of a table as large as a fine grid level
ROWS_A_POINT = 128  # added up, as corners of cells are


def ceilings(
    device: torch.device, seconds: float, side: int = 2048, reads: int = 1 << 22
) -> dict[str, Values]:
    """Rates: matrix products, random reads of table rows (2 numbers each), and copies.

    A copied byte counts twice: it is read and written.

    Args:
        side: of the square matrices.
        reads: table rows that are read; 64 bytes are copied for each.
    """
    a = torch.randn(side, side, device=device)
    b = a.bfloat16()
    table = torch.randn(ROWS, 2, device=device)
    index = torch.randint(ROWS, (reads // ROWS_A_POINT, ROWS_A_POINT), device=device).int()
    flat = index.view(-1)
    source = torch.empty(64 * reads, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    calls: dict[str, Callable[[], object]] = {
        "float32": lambda: a @ a,
        "reads, added up": lambda: embedding_bag(index, table, mode="sum"),
        "reads": lambda: table.index_select(0, flat),
        "copy": lambda: target.copy_(source),
    }
    has_16bit = device.type == "cuda" or matrix_dtype() == torch.bfloat16
    if has_16bit:
        calls["16bit"] = lambda: b @ b
    ms = {name: measure({name: call}, seconds)[name].median for name, call in calls.items()}
    gigaflop = 2e-9 * side**3
    report: dict[str, Values] = {
        MATMULS[0]: gigaflop / ms["float32"] * 1e3,
        MATMULS[1]: gigaflop / ms["16bit"] * 1e3 if has_16bit else None,
        # Which is faster differs between processors and GPUs.
        READS: reads / min(ms["reads"], ms["reads, added up"]) / 1e3,
        COPY: 2 * len(source) / ms["copy"] / 1e6,
    }
    if not has_16bit:
        report[f"{MATMULS[1]}.reason"] = "this processor has no 16-bit matrix product"
    return report
