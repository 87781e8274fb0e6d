"""Whether the eyes follow their control, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import spearman_corrcoef

Frame = UInt8[np.ndarray, "h w 3"]
# Opening of the eyes, and of the mouth, in any unit; NaN where there is no face.
Openings = tuple[float, float]


class EyeResponse(Metric):
    """How measured eyes answer to the eye control.

    compute() gives
        response: Spearman's rank correlation of control and measured eyes, the mean over series:
            1 when more control always means wider eyes.
        closing: fraction of the eyes' opening that is gone at the smallest control, against the
            largest; 1 is shut, 0 means that nothing moves.
        mouth_change: largest change of the mouth's opening over a series, in the caller's unit.

    Series with less than three frames with a face do not count; NaN when none counts.
    """

    full_state_update = False
    higher_is_better = True
    response: list[Tensor]
    closing: list[Tensor]
    mouth_change: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("response", "closing", "mouth_change"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        control: Float[Tensor, " k"],
        eyes: Float[Tensor, " k"],
        mouth: Float[Tensor, " k"],
    ) -> None:
        """Add a series: one frame, rendered with every control, the smallest first."""
        finite = eyes.isfinite() & mouth.isfinite()
        control, eyes, mouth = (x[finite].double() for x in (control, eyes, mouth))
        if len(eyes) < 3:
            return
        same = eyes.max() == eyes.min()
        rank = torch.zeros(()) if same else spearman_corrcoef(eyes.float(), control.float())
        self.response.append(rank.double())
        self.closing.append(1 - eyes[0] / eyes[-1].clamp_min(1e-9))
        self.mouth_change.append(mouth.max() - mouth.min())

    def compute(self) -> dict[str, Tensor]:
        nothing = torch.tensor(torch.nan, dtype=torch.float64)
        return {
            name: torch.stack(values).mean() if values else nothing
            for name in ("response", "closing", "mouth_change")
            for values in [getattr(self, name)]
        }


def eye_response(
    draw: Callable[[int, float], Frame],
    frames: Sequence[int],
    controls: Sequence[float],
    measure: Callable[[Frame, int], Openings],
) -> dict[str, float]:
    """EyeResponse of rendered frames.

    Args:
        draw: frame i of a portrait with an eye control, everything else unchanged.
        frames: which frames.
        controls: from the smallest to the largest.
        measure: eyes and mouth of a picture of frame i.
    """
    metric = EyeResponse()
    for i in frames:
        found = [measure(draw(i, control), i) for control in controls]
        eyes, mouth = torch.tensor(found, dtype=torch.float64).unbind(1)
        metric.update(torch.tensor(controls, dtype=torch.float64), eyes, mouth)
    return {name: float(value) for name, value in metric.compute().items()}
