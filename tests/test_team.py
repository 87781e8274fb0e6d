"""How many threads work beside other programs."""

from collections.abc import Iterator

import pytest
import torch

from radnerf import team
from radnerf.load import Load


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Meter:
    """Says what it is told to say."""

    def __init__(self, *loads: Load | None) -> None:
        self.loads = list(loads)

    def look(self) -> Load | None:
        return self.loads.pop(0)


def load(waited: float, idle: float, ran: float = 2.0) -> Load:
    return Load(seconds=1, ran=ran, waited=waited, idle=idle)


@pytest.fixture
def made(monkeypatch):
    """A team on four cores that looks at every chance, with these loads."""
    monkeypatch.setattr(team, "EVERY_S", 0.0)
    monkeypatch.setattr(team, "cores", lambda: 4)
    monkeypatch.setattr("radnerf.load.allowance", lambda: 4.0)

    def make(*loads: Load | None) -> team.Team:
        made = team.Team()
        made._meter = Meter(*loads)
        return made

    return make


def test_threads_that_wait_for_other_programs_are_sent_away(made):
    crew = made(load(0.7, 0.0), load(1.6, 0.0), load(3.0, 0.0, ran=0.5), load(0.5, 0.0, ran=0.5))
    assert [crew.look() for _ in range(4)] == [3, 1, 1, 1]
    assert crew.most == 4
    assert torch.get_num_threads() == 4, "torch's own threads are another matter"


def test_they_come_back_when_there_are_idle_cores(made):
    crew = made(load(2.2, 0.0), load(0.0, 0.3), load(0.0, 0.9), load(0.0, 2.0), load(0.0, 2.0))
    assert [crew.look() for _ in range(5)] == [2, 2, 3, 4, 4]


def test_threads_that_wait_for_each_other_stay(made):
    assert made(load(1.0, 0.0, ran=4.0)).look() == 4


def test_where_nothing_is_known_there_are_as_many_as_cores(made, monkeypatch):
    monkeypatch.setattr(team, "cores", lambda: 3)
    assert made(None).look() == 3


def test_a_number_that_somebody_chose_is_the_most_there_will_be(made):
    crew = made(load(0.0, 2.0), load(0.0, 2.0))
    torch.set_num_threads(2)
    assert crew.look() == 2
    assert crew.look() == 2


def test_a_look_is_not_taken_at_every_operator(made, monkeypatch):
    crew = made()
    monkeypatch.setattr(team, "EVERY_S", 60.0)
    assert crew.look() == 4


def test_torch_has_as_many_threads_as_there_is_room_for_until_it_rests(made):
    crew = made(load(0.0, 0.0), load(0.9, 0.0), load(0.0, 2.0))
    for act, threads in (
        (crew.elements, 4),
        (crew.elements, 3),
        (crew.rest, 4),
        (crew.elements, 4),
    ):
        act()
        assert torch.get_num_threads() == threads


def test_a_context_of_elements_ends_as_it_began(made):
    crew = made(load(0.9, 0.0))
    with crew.on_elements():
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 4
