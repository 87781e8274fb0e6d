"""The stage that looks a clip over before hours are spent on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from radnerf.audio import load_audio
from radnerf.data.clip import Clip
from radnerf.preprocess.pictures import frame_reader, matte_reader
from radnerf.preprocess.report.facts import measure
from radnerf.preprocess.report.findings import find_faults
from radnerf.preprocess.report.page import page
from radnerf.preprocess.report.sheet import SHEET
from radnerf.preprocess.report.warnings import PAGE, QUALITY
from radnerf.preprocess.stages import Stage, Workspace


@dataclass(frozen=True)
class QualityReport(Stage):
    """The report: a page for people, and the same as numbers.

    Attributes:
        cut: what a user should know of the video's cuts, if there are any.
    """

    name = "quality"
    needs = ("sheet", "audio", "parsing")
    outputs = (QUALITY, PAGE)

    clip_id: str
    cut: str | None

    def settings(self) -> dict[str, Any]:
        return {"cut": self.cut}

    def run(self, work: Workspace) -> None:
        facts = measure(
            Clip.open(work.root),
            load_audio(work.root / "aud.wav"),
            frame_reader(work.root),
            matte_reader(work.root),
            np.load(work.root / "unseen.npy"),
            self.cut,
        )
        faults = find_faults(facts)
        warnings = [{"name": fault.name, "text": fault.text} for fault in faults]
        content = {"warnings": warnings, "facts": facts.as_dict()}
        (work.out / QUALITY).write_text(json.dumps(content, indent=1))
        (work.out / PAGE).write_text(page(self.clip_id, facts, faults, work.root / SHEET))
