"""python -m radnerf.benchmark [--portrait FILE] [--json FILE] [--quick]"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# As the entry scripts do: OpenMP threads that spin for long are slow on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

from radnerf.benchmark.suite import Settings, show, write
from radnerf.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser("python -m radnerf.benchmark", description=__doc__)
    parser.add_argument("--portrait", type=Path, help="a portrait file; a stand-in without it")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter, for a look")
    parser.add_argument("--kernels", default="auto", help="auto, cpu, reference or triton")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--conf", type=Path, default=Path("conf"), help="the folder conf/")
    options = parser.parse_args(arguments)
    settings = Settings(
        portrait=options.portrait,
        conf=options.conf,
        quick=options.quick,
        backend=options.kernels,
        device=options.device,
    )
    from radnerf.benchmark.suite import run

    began = time.monotonic()
    try:
        report = run(settings)
        show(report, time.monotonic() - began)
        if options.json:
            write(options.json, report)
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
