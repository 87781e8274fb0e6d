"""How long each stage trains: a recipe in steps, a clock, or more of what has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig

from radnerf.errors import UserError
from radnerf.modules.budget import Budget

TRAINING = ("head", "lips", "torso", "joint")
FEW = 0.5  # fraction of the recipe's steps below which a stage had too few


def recipe(config: DictConfig) -> dict[str, int]:
    """Steps that quality= wants of each stage; a stage without a fraction is left out.

    Raises:
        UserError: they are no numbers of steps.
    """
    factor = config.quality.factor
    if not (_is_number(factor) and factor > 0):
        raise UserError(f"quality.factor={factor} is no factor: give a positive number.")
    for name in TRAINING:
        if not (_is_number(config.recipe[name]) and config.recipe[name] >= 0):
            raise UserError(f"recipe.{name}={config.recipe[name]} is no number of steps.")
    wanted = {name: round(factor * config.recipe[name]) for name in TRAINING}
    return {
        name: steps
        for name, steps in wanted.items()
        if steps > 0 and config.model.stage_fractions[name] > 0
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def budgets(config: DictConfig, stages: Iterable[str]) -> dict[str, Budget]:
    """What each of the stages may use; those that get nothing are left out.

    That is the recipe's steps, unless there are minutes or steps for all training, of which each
    stage has a fraction.

    Raises:
        UserError: a limit that is none.
    """
    minutes, steps = config.minutes, config.steps
    for name, value in (("minutes", minutes), ("steps", steps), ("more", config.more)):
        if value is not None and not (_is_number(value) and value > 0):
            raise UserError(f"{name}={value} is not a budget: give a positive number.")
    wanted = recipe(config)
    if minutes is None and steps is None:
        return {name: Budget(steps=wanted[name]) for name in stages if name in wanted}
    return {
        name: Budget(
            minutes=None if minutes is None else float(minutes) * fraction,
            steps=None if steps is None else max(1, round(steps * fraction)),
        )
        for name, fraction in _fractions(config, stages).items()
    }


def more_budgets(config: DictConfig, stages: Iterable[str], minutes: float) -> dict[str, Budget]:
    """What the stages may use of more minutes, after they have ended."""
    return {
        name: Budget(minutes=minutes * fraction, extra=True)
        for name, fraction in _fractions(config, stages).items()
    }


def _fractions(config: DictConfig, stages: Iterable[str]) -> dict[str, float]:
    """The stages' parts of a budget, which add up to 1."""
    fractions = {name: float(config.model.stage_fractions[name]) for name in stages}
    total = sum(fractions.values())
    return {name: fraction / total for name, fraction in fractions.items() if fraction > 0}


def wanted_steps(config: DictConfig, stages: Iterable[str]) -> dict[str, int]:
    """Steps of the recipe that a clock may not leave time for; none where `steps` says how many."""
    if config.steps is not None:
        return {}
    return {name: steps for name, steps in recipe(config).items() if name in stages}


def too_few(had: Mapping[str, int], wanted: Mapping[str, int]) -> str | None:
    """What to say of stages that had less than half of the steps they should have, if any had."""
    short = [
        f"{name} had {had[name]:,} of {steps:,} steps"
        for name, steps in wanted.items()
        if name in had and had[name] < FEW * steps
    ]
    return f"too few steps: {', '.join(short)}" if short else None


def step_metrics(had: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, Any]:
    """For metrics.json: every stage's steps, those of its recipe, and what had too few."""
    metrics: dict[str, Any] = {f"steps.{name}": steps for name, steps in had.items()}
    metrics |= {f"steps.{name}.recipe": wanted[name] for name in had if name in wanted}
    return metrics | {"steps.too_few": too_few(had, wanted)}


def forecast(steps: Mapping[str, int], costs: Mapping[str, float], trial_s: float) -> float:
    """Seconds that steps of the stages will take.

    Args:
        costs: of a stage's step, in trial steps.
        trial_s: of a trial step on this machine.
    """
    return trial_s * sum(count * costs[name] for name, count in steps.items())


def duration(seconds: float) -> str:
    """Roughly, for people: 40 seconds, 7 minutes, 3.5 hours."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    if seconds < 90 * 60:
        minutes = max(1, round(seconds / 60))
        return "a minute" if minutes == 1 else f"{minutes} minutes"
    return f"{seconds / 3600:.1f} hours"
