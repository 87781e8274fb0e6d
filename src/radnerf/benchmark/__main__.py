"""How fast operators, training and rendering are here: python -m radnerf.benchmark [--json FILE]"""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from pathlib import Path

from radnerf.files import whole_file
from radnerf.runtime.programs import Options, ended, start

CONF = Path(__file__).parents[3] / "conf"  # of the checkout


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    # As the entry scripts do: OpenMP threads that spin for long are slow on a busy machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    return ended(lambda: _run(_options().parse_args(arguments)))


def _options() -> Options:
    parser = Options("python -m radnerf.benchmark", description=__doc__)
    parser.add_argument("--portrait", type=Path, help="a portrait file; a stand-in without it")
    parser.add_argument(
        "--plugins", nargs="+", default=[], help="modules that register the portrait's components"
    )
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter, for a look")
    parser.add_argument("--kernels", default="auto", choices=["auto", "cpu", "reference", "triton"])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--conf", type=Path, default=CONF, help="the folder conf/ of a checkout")
    beside = parser.add_argument_group("alone and beside other programs in turns, instead of all")
    others = beside.add_mutually_exclusive_group()
    others.add_argument("--beside", type=_others, help="so many busy programs, or `training`")
    others.add_argument("--quota", type=float, metavar="CORES", help="a control group's, as root")
    beside.add_argument("--video", type=Path, help="to preprocess, too: a few seconds of a person")
    beside.add_argument("--only", nargs="+", default=[], help="names of the table's rows")
    return parser


def _others(text: str) -> int | str:
    if text == "training":
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is neither `training` nor a number of programs")


def _run(options: argparse.Namespace) -> None:
    # Imported late, so that --help and a misspelt option answer at once.
    from radnerf.benchmark.report import show, write
    from radnerf.benchmark.suite import FULL, QUICK, run
    from radnerf.registry import load_plugins

    load_plugins(options.plugins)
    # Opened before the work: a file that cannot be written is found at once.
    with whole_file(options.json) if options.json else nullcontext() as file:
        if options.beside is not None or options.quota is not None:
            from radnerf.benchmark.beside import benchmark_beside, show_beside

            report = benchmark_beside(
                options.conf,
                options.beside,
                options.quota,
                1.0 if options.quick else 5.0,
                options.video,
                options.only,
            )
            show_beside(report)
            if file:
                write(file, report)
            return
        report = run(
            QUICK if options.quick else FULL,
            portrait=options.portrait,
            conf=options.conf,
            backend=options.kernels,
            device=options.device,
        )
        show(report)
        if file:
            write(file, report)


if __name__ == "__main__":
    start(main)
