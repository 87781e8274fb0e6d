"""A busy machine is spoken of, a hiccup is not."""

from __future__ import annotations

from itertools import pairwise

import pytest

from radnerf.callbacks import busyness
from radnerf.callbacks.busyness import Busyness
from radnerf.load import Load, Meter


class Shares(Meter):
    """Shares of the machine that others leave, two seconds apart."""

    def __init__(self, *shares: float | None) -> None:
        self.shares = list(shares)

    def look(self) -> Load | None:
        share = self.shares.pop(0)
        return None if share is None else _Left(2.0, 2 * share, 0.0, 0.0, share)


class _Left(Load):
    def __init__(self, *fields: float) -> None:
        super().__init__(*fields[:4])
        object.__setattr__(self, "share", fields[4])

    @property
    def left(self) -> float:
        return self.share  # type: ignore[attr-defined,no-any-return]


def notes(monkeypatch: pytest.MonkeyPatch, *shares: float | None) -> list[str]:
    now = [0.0]
    monkeypatch.setattr(busyness.time, "monotonic", lambda: now[0])
    told, found = Busyness(Shares(*shares)), []
    for _ in shares:
        now[0] += 2.0
        found.append(told.look())
        assert told.look() == found[-1]  # not looked again so soon
    return found


def test_a_hiccup_is_not_spoken_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notes(monkeypatch, *[1.0] * 5, 0.2, *[1.0] * 5) == [""] * 11
    assert notes(monkeypatch, *[None] * 5) == [""] * 5


def test_a_busy_machine_is_until_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    found = notes(monkeypatch, *[0.5] * 40, *[0.85] * 40, *[1.0] * 20)
    assert found[0] == "" and found[39] == "machine busy: 50 % of its usual speed"
    assert found[79] == "machine busy: 85 % of its usual speed"  # not quiet yet, and not gone
    assert found[-1] == ""
    begins = [a == "" and b != "" for a, b in pairwise(found)]
    assert sum(begins) == 1
