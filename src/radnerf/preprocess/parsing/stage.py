"""The stage that tells head, neck, torso and background apart in every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from radnerf.data.clip import write_parsing
from radnerf.preprocess.parsing.parsers import Parser
from radnerf.preprocess.pictures import frame_reader, write_gray
from radnerf.preprocess.stages import Stage, Workspace
from radnerf.preprocess.streams import on_threads
from radnerf.runtime.output import quiet


@dataclass(frozen=True)
class Parsing(Stage):
    """Labels, and a soft matte of the person."""

    name = "parsing"
    version = 2
    needs = ("frames",)
    outputs = ("parsing", "matte")
    resumable = True
    seconds_a_frame = 0.02

    parser: Parser
    workers: int

    def settings(self) -> dict[str, Any]:
        return {"parser": self.parser.facts()}

    def run(self, work: Workspace) -> None:
        points = np.load(work.root / "landmarks.npy")
        done = work.done("parsing/{}.png", "matte/{}.png")
        results = self.parser.labels(
            frame_reader(work.root), points, work.report, self.workers, done
        )

        def write(item: tuple[int, Any, Any]) -> None:
            i, labels, alpha = item
            write_parsing(work.out / "parsing" / f"{i}.png", labels)
            write_gray(work.out / "matte" / f"{i}.png", alpha)

        with quiet():
            for _ in on_threads(write, results, self.workers):
                pass
