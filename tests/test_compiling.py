"""The word that the first start on a machine takes longer."""

import logging

import numba
import pytest

from radnerf import compiling


@pytest.fixture
def word():
    """A listener of its own: others may have spoken in this process."""
    listener = compiling._Word()
    compiling.event.register("numba:compile", listener)
    yield
    compiling.event.unregister("numba:compile", listener)


def test_the_first_compilation_is_told_once(word, caplog):
    caplog.set_level(logging.INFO, "radnerf.compiling")
    double = numba.njit(lambda x: 2 * x)
    assert not caplog.records
    assert double(2) == 4
    assert double(2.0) == 4.0
    assert len([r for r in caplog.records if "compiling" in r.message]) >= 1
    n = len(caplog.records)
    assert double(2j) == 4j
    assert len(caplog.records) == n


def test_nothing_is_told_of_what_was_compiled(word, caplog):
    double = numba.njit(lambda x: 2 * x)
    double(2)
    caplog.clear()
    double(3)
    assert not caplog.records
