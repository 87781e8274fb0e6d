"""Whether the person in a video has agreed to be made into a portrait.

It is asked once, kept in the clip's folder and in the portrait file, and sent nowhere. Nothing is
refused: the software cannot know what was agreed, but it can make sure that it was asked.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from radnerf.data.clip import read_consent, write_consent

log = logging.getLogger(__name__)

NOT_NEEDED = "not needed: the person is made from a seed"
QUESTION = (
    "This makes a portrait of a real person that can say anything. Who agreed to it, and when?\n"
    "(A line such as 'Anna Muster, 3 May 2026'; enter alone if nobody was asked.) "
)
MISSING = (
    "No consent of the person in this clip is recorded: add consent='who agreed, when'. "
    "Training goes on; the portrait will say so when it renders."
)
UNRECORDED = (
    "This portrait has no record that the person in it agreed; who shows the video answers for it "
    "(docs/ethics.md)."
)


@dataclass(frozen=True)
class Consent:
    """Who agreed, and when; None if nobody was asked. And to which video, by its hash."""

    text: str | None
    video: str | None = None

    @classmethod
    def of(
        cls, root: Path, given: str | None, synthetic: bool, video: str | None = None
    ) -> Consent:
        """As given, else as the clip's folder has it, else as the user answers on a terminal.

        Args:
            root: the clip's folder; it may not exist yet.
            given: the option `consent`.
            synthetic: the clip shows nobody.
            video: hash of the video that the clip is made of, where it is.
        """
        if synthetic:
            return cls(NOT_NEEDED)
        text = read_consent(root, video) if given is None else given
        if text is None and sys.stdin.isatty() and sys.stdout.isatty():
            text = _ask()
        return cls(None if text is None else str(text).strip(), video)

    def keep(self, root: Path) -> None:
        """Write it into the clip's folder, an empty answer, too, so that it is asked once."""
        if self.text != read_consent(root):
            write_consent(root, self.text, self.video)
        if not self.text:
            log.warning(MISSING)


def _ask() -> str:
    try:
        return input(QUESTION)
    except EOFError:
        return ""
