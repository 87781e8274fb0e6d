"""Whether a rendered mouth is on time: against the true mouth, and against the sound."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from radnerf.audio.sync import SHORTEST, offset_correlations

MAX_LAG = 0.4  # seconds searched to both sides


class MouthOffset(Metric):
    """Milliseconds by which a rendered mouth is later than the true one; negative is early.

    The lag at which both openings correlate best, the tip of a parabola through the best lag and
    its neighbours. A frame without a face (NaN) takes its neighbours' opening. NaN when a mouth
    never moves, or on less than MAX_LAG of frames.

    Args:
        fps: frames a second; updates are consecutive.
    """

    full_state_update = False
    rendered: list[Tensor]
    true: list[Tensor]

    def __init__(self, fps: float) -> None:
        super().__init__()
        self.fps = fps
        self.add_state("rendered", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")

    def update(self, rendered: Float[Tensor, " t"], true: Float[Tensor, " t"]) -> None:
        """Add mouth openings of consecutive frames."""
        self.rendered.append(rendered.double().cpu())
        self.true.append(true.double().cpu())

    def compute(self) -> Tensor:
        pair = [fill_gaps(torch.cat(x).numpy()) for x in (self.rendered, self.true)]
        lag = best_lag(pair[0], pair[1], round(MAX_LAG * self.fps))
        return torch.tensor(1000 * lag / self.fps, dtype=torch.float64)


class AudioOffset(Metric):
    """How a mouth goes with the sound it speaks.

    compute() gives
        offset_ms: milliseconds by which the mouth is later than its sound's loudness, as in
            audio/sync.py; speech that is filmed well has -100 to 0, as lips move before they are
            heard.
        correlation: of mouth opening and loudness there, both without their slow parts.

    NaN when the mouth never moves, or on less than 4 seconds: chance then correlates as well.

    Args:
        wave: the sound from the first frame on.
        fps: frames a second; updates are consecutive.
    """

    full_state_update = False
    opening: list[Tensor]

    def __init__(self, wave: Float[np.ndarray, " samples"], fps: float) -> None:
        super().__init__()
        self.wave = wave
        self.fps = fps
        self.add_state("opening", [], dist_reduce_fx="cat")

    def update(self, opening: Float[Tensor, " t"]) -> None:
        """Add mouth openings of consecutive frames."""
        self.opening.append(opening.double().cpu())

    def compute(self) -> dict[str, Tensor]:
        opening = fill_gaps(torch.cat(self.opening).numpy())
        offsets, correlation = offset_correlations(opening, self.wave, self.fps)
        best = int(correlation.argmax())
        found = bool(correlation[best] > 0) and len(opening) >= SHORTEST * self.fps
        return {
            "offset_ms": torch.tensor(-1000.0 * offsets[best] if found else torch.nan),
            "correlation": torch.tensor(float(correlation[best]) if found else torch.nan),
        }


def best_lag(
    late: Float[np.ndarray, " t"], reference: Float[np.ndarray, " t"], max_lag: int
) -> float:
    """Steps by which `late` follows `reference` where they correlate best; NaN if they never do."""
    n = len(late)
    if n <= 2 * max_lag or not (np.isfinite(late).all() and np.isfinite(reference).all()):
        return float("nan")
    correlation = np.full(2 * max_lag + 1, np.nan)
    for k, lag in enumerate(range(-max_lag, max_lag + 1)):
        a = late[max(0, lag) : n + min(0, lag)]
        b = reference[max(0, -lag) : n + min(0, -lag)]
        if a.std() > 0 and b.std() > 0:
            correlation[k] = np.corrcoef(a, b)[0, 1]
    if np.isnan(correlation).any() or correlation.max() <= 0:
        return float("nan")
    best = int(correlation.argmax())
    if not 0 < best < len(correlation) - 1:
        return float(best - max_lag)
    before, here, after = correlation[best - 1 : best + 2]
    bend = before - 2 * here + after
    return float(best - max_lag + (0.5 * (before - after) / bend if bend < 0 else 0.0))


def fill_gaps(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """NaN replaced by a straight line between the neighbours; all NaN stay."""
    known = np.isfinite(values)
    if not known.any():
        return values
    index = np.arange(len(values))
    return np.interp(index, index[known], values[known])
