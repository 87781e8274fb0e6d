"""How long stages train, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from radnerf.errors import UserError
from radnerf.experiment import plan

CONF = Path(__file__).parents[2] / "conf"


def config(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


def test_the_recipe_is_in_steps_and_follows_the_quality() -> None:
    good = plan.budgets(config(), plan.TRAINING)
    assert {name: budget.steps for name, budget in good.items()} == dict(config().recipe)
    assert all(budget.minutes is None for budget in good.values())
    for quality, factor in (("draft", 0.25), ("best", 3)):
        found = plan.budgets(config(f"quality={quality}"), ["head", "joint"])
        assert list(found) == ["head", "joint"]
        assert found["head"].steps == round(factor * good["head"].steps)
    assert "lips" not in plan.budgets(config("model.stage_fractions.lips=0"), plan.TRAINING)
    assert "lips" not in plan.budgets(config("recipe.lips=0"), plan.TRAINING)
    assert plan.budgets(config("data=video", "data.video=a.mp4"), ["head"])["head"].steps == 14_800


def test_a_clock_and_steps_win_over_the_recipe() -> None:
    clock = plan.budgets(config("minutes=10"), plan.TRAINING)
    assert sum(budget.minutes or 0 for budget in clock.values()) == pytest.approx(10)
    assert clock["head"].minutes == pytest.approx(5) and clock["head"].steps is None
    both = plan.budgets(config("minutes=10", "steps=100"), ["head"])["head"]
    assert (both.minutes, both.steps) == (10, 100)
    assert plan.wanted_steps(config("minutes=10"), ["head"]) == {"head": 4000}
    assert plan.wanted_steps(config("steps=10"), ["head"]) == {}
    with pytest.raises(UserError, match="minutes=0"):
        plan.budgets(config("minutes=0"), plan.TRAINING)


def test_more_minutes_are_shared_and_extra() -> None:
    more = plan.more_budgets(config(), plan.TRAINING, 10.0)
    assert sum(budget.minutes or 0 for budget in more.values()) == pytest.approx(10)
    assert all(budget.extra and budget.steps is None for budget in more.values())


def test_what_had_too_few_steps_is_said() -> None:
    wanted = {"head": 4000, "lips": 600}
    assert plan.too_few({"head": 2000, "lips": 300}, wanted) is None
    assert plan.too_few({"head": 1999, "lips": 600}, wanted) == (
        "too few steps: head had 1,999 of 4,000 steps"
    )
    metrics = plan.step_metrics({"head": 5, "torso": 7}, wanted)
    assert (metrics["steps.head"], metrics["steps.head.recipe"], metrics["steps.torso"]) == (
        5,
        4000,
        7,
    )
    assert metrics["steps.too_few"] and "steps.torso.recipe" not in metrics


def test_forecasts() -> None:
    seconds = plan.forecast({"head": 100, "torso": 10}, {"head": 2.0, "torso": 0.5}, 0.1)
    assert seconds == pytest.approx(0.1 * (200 + 5))
    words = {3: "5 seconds", 42: "40 seconds", 58: "a minute", 400: "7 minutes", 9000: "2.5 hours"}
    assert {given: plan.duration(given) for given in words} == words
