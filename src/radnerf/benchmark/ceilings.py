"""What this machine can do at most, in the terms of the operators."""

from __future__ import annotations

import torch

from radnerf.benchmark.timing import measure
from radnerf.kernels.mlp.cpu import matrix_dtype

SIDE = 2048  # of the square matrices
ROWS = 1 << 16  # of a table as large as a fine grid level
LOOKUPS = 1 << 22
COPY_BYTES = 1 << 28


def ceilings(device: torch.device, seconds: float) -> dict[str, float]:
    """Rates by name: matrix products in GFLOP/s, table reads in millions a second, copies in GB/s.

    A copied byte counts twice: it is read and written.
    """
    half = torch.float16 if device.type == "cuda" else matrix_dtype()
    a = torch.randn(SIDE, SIDE, device=device)
    b = a.to(half)
    table = torch.randn(ROWS, 2, device=device)
    index = torch.randint(ROWS, (LOOKUPS,), device=device)
    read = torch.empty(LOOKUPS, 2, device=device)
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = {
        name: measure({name: call}, seconds)[name].median
        for name, call in {
            "float32": lambda: a @ a,
            "half": lambda: b @ b,
            "reads": lambda: torch.index_select(table, 0, index, out=read),
            "copy": lambda: target.copy_(source),
        }.items()
    }
    flop = 2 * SIDE**3
    return {
        "ceiling.matmul_float32_gflops": flop / times["float32"] / 1e6,
        f"ceiling.matmul_{str(half).removeprefix('torch.')}_gflops": flop / times["half"] / 1e6,
        "ceiling.table_reads_millions_per_s": LOOKUPS / times["reads"] / 1e3,
        "ceiling.copy_gb_per_s": 2 * COPY_BYTES / times["copy"] / 1e6,
    }
