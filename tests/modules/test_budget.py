import pytest

from radnerf.modules import budget as module
from radnerf.modules.budget import Budget
from radnerf.modules.stage import LearningRates


def test_the_first_limit_to_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    budget = Budget(minutes=1.0, steps=200)
    budget.start()
    now[0] += 15
    assert budget.progress(20) == pytest.approx(0.25)
    assert budget.progress(150) == pytest.approx(0.75)
    assert budget.remaining_s(20) == pytest.approx(45)
    now[0] += 100
    assert budget.progress(20) == 1.0


def test_time_of_earlier_runs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "monotonic", lambda: 0.0)
    budget = Budget(minutes=1.0, used_s=30.0)
    budget.start()
    assert budget.progress(0) == pytest.approx(0.5)


def test_a_budget_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="minutes or steps"):
        Budget()


def test_rates_rise_then_decay() -> None:
    rates = LearningRates(final_factor=0.1, warmup=0.1)
    assert rates.at(0.0) == pytest.approx(0.1)
    assert rates.at(0.1) == pytest.approx(0.1**0.1)
    assert rates.at(1.0) == pytest.approx(0.1)


def test_extra_rates_go_on_from_where_they_ended() -> None:
    rates = LearningRates(final_factor=0.1, warmup=0.02)
    assert rates.after(0.0) == pytest.approx(0.1 * 0.1)
    assert rates.after(0.05) == pytest.approx(0.1, rel=0.05)
    assert rates.after(1.0) == pytest.approx(0.05)
