"""A clip folder from a video: python -m radnerf.preprocess VIDEO DIR, or with --benchmark."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.runtime.programs import Options, ended, start

TRACKING = ("rmse_px", "noise_px", "jitter_deg", "pnp_jitter_deg", "head_box_coverage")


def main(arguments: list[str] | None = None) -> int:
    """Preprocess a video; the exit code."""
    return ended(lambda: _run(_options().parse_args(arguments)))


def _options() -> Options:
    parser = Options("python -m radnerf.preprocess", description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("clip", type=Path, nargs="?", help="the clip folder to make")
    parser.add_argument("--resolution", type=int, help="longer side that frames are scaled down to")
    parser.add_argument(
        "--benchmark", action="store_true", help="time each stage, in a folder that is not kept"
    )
    parser.add_argument(
        "--truth", type=Path, help="clip folder with the video's true labels and poses"
    )
    parser.add_argument("--json", type=Path, help="where to write the benchmark's figures")
    return parser


def _run(given: argparse.Namespace) -> None:
    if given.benchmark:
        # Opened before the work: a file that cannot be written is found at once.
        kept = whole_file(given.json) if given.json else nullcontext()
        with kept as file, tempfile.TemporaryDirectory() as folder:
            report = benchmark(given.video, Path(folder) / "clip", given.resolution, given.truth)
            print(table(report))
            if file:
                file.write_text(json.dumps(report, indent=1) + "\n")
    elif given.clip is None:
        raise UserError("Give the clip folder to make: python -m radnerf.preprocess VIDEO DIR.")
    elif given.truth or given.json:
        raise UserError("--truth and --json go with --benchmark: leave them out or add that.")
    else:
        _preprocess(given.video, given.clip, given.resolution)


def _preprocess(video: Path, root: Path, resolution: int | None) -> None:
    from radnerf.preprocess import preprocess_video
    from radnerf.preprocess.report import PAGE, warnings_of

    clip = preprocess_video(video, root, clip_id=video.stem, resolution=resolution)
    for text in warnings_of(root):
        print(f"warning: {text}", file=sys.stderr)
    print(f"{root}: {len(clip)} frames; look at {root / PAGE}")


def benchmark(
    video: Path, root: Path, resolution: int | None = None, truth: Path | None = None
) -> dict[str, Any]:
    """Seconds of each stage of a preprocessing from nothing, and how good its result is.

    Args:
        root: the clip folder to make.
        truth: a clip folder with the true labels and poses.
    """
    from radnerf.data.clip import Clip
    from radnerf.preprocess import preprocess_video
    from radnerf.preprocess.report.accuracy import beside_truth, flicker
    from radnerf.preprocess.stages import seconds_of

    true = Clip.open(truth) if truth else None
    clip = preprocess_video(video, root, clip_id=video.stem, resolution=resolution)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = seconds_of(root)
    total = sum(seconds.values())
    tracking = clip.meta.get("tracking", {})
    return {
        "video": video.name,
        "frames": len(clip),
        "size": list(clip.size),
        "seconds": seconds,
        "total_s": round(total, 2),
        "frames_per_s": round(len(clip) / max(total, 1e-9), 2),
        "peak_mb": round(peak, 1),
        "quality": {name: tracking[name] for name in TRACKING if name in tracking}
        | {"flicker": flicker(clip)}
        | (beside_truth(clip, true) if true else {}),
    }


def table(report: dict[str, Any]) -> str:
    """A benchmark for people."""
    height, width = report["size"]
    total = max(report["total_s"], 1e-9)
    lines = [f"{report['video']}: {report['frames']} frames of {width} x {height}"]
    lines += [
        f"  {name:<10} {seconds:8.2f} s {100 * seconds / total:5.1f} %"
        for name, seconds in report["seconds"].items()
    ]
    lines.append(
        f"  {'all':<10} {total:8.2f} s         {report['frames_per_s']} frames a second, "
        f"peak memory {report['peak_mb']:.0f} MB"
    )
    lines += [f"  {name}: {value:.4g}" for name, value in report["quality"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    start(main)
