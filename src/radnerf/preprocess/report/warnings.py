"""The quality report as files of the clip folder, and its warnings at every use of the clip."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from radnerf.errors import UserError

QUALITY, PAGE = "quality.json", "preprocess.html"

log = logging.getLogger(__name__)


def warnings_of(root: Path) -> list[str]:
    """Sentences of a clip's quality report; none where there is no report."""
    try:
        found = json.loads((root / QUALITY).read_text())["warnings"]
        return [str(one["text"]) for one in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def warn(root: Path, strict: bool = False) -> None:
    """Say what is wrong with a clip.

    Raises:
        UserError: something is, and `strict` is asked for.
    """
    texts = warnings_of(root)
    if strict and texts:
        raise UserError(f"{root}: {' '.join(texts)} (strict=true; see {root / PAGE})")
    for text in texts:
        log.warning("%s: %s", root.name, text)
    if texts:
        log.warning("%s: pictures and plots are in %s", root.name, root / PAGE)
