"""python -m radnerf.data.demo clip|video|speech PATH: the demo's parts, for trying things out."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from radnerf.data.clip import SAMPLE_RATE
from radnerf.data.demo import make_demo_clip, write_demo_video
from radnerf.data.demo.speech import synthesize


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m radnerf.data.demo", description=__doc__)
    parser.add_argument("what", choices=["clip", "video", "speech"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--size", type=int, default=160, help="pixels a side")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "clip":
        make_demo_clip(options.path, options.seconds, options.size, options.seed)
    elif options.what == "video":
        write_demo_video(options.path, options.seconds, options.size, options.seed)
    else:
        wave = synthesize(options.seconds, options.seed).wave
        wavfile.write(options.path, SAMPLE_RATE, (wave * 32767).astype(np.int16))


if __name__ == "__main__":
    main()
