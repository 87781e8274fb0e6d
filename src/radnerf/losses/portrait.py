"""The weights of a portrait's losses: what `loss=` chooses and `loss.region.weight=0` overrides."""

from __future__ import annotations

from dataclasses import dataclass, field

from radnerf.losses.lips import LipsLoss, StructuralLips


@dataclass(frozen=True)
class Weighted:
    """A loss term; 0 turns it off. The colour error has weight 1."""

    weight: float = 0.0


@dataclass(frozen=True)
class EyeLoss:
    """How the eyes are taught to follow their control.

    Attributes:
        weight: of the squared colour error in the eyes' rectangle, on top of the colour error, in
            proportion to how shut the eyes are.
        share: of a step's rays that fall into that rectangle.
        blink_share: of the drawn frames in which the eyes are shut or half shut.
        elsewhere: rays outside the rectangle are driven by the eyes of other frames, so that
            nothing but the eyes learns to follow them; the mouth opens in many a blink.
        control: whether the head field sees the eyes at all.
    """

    weight: float = 0.0
    share: float = 0.0
    blink_share: float = 0.0
    elsewhere: bool = False
    control: bool = True


@dataclass(frozen=True)
class PortraitLoss:
    """All losses of the stages that train the head.

    Attributes:
        entropy: of the rays' accumulated alpha.
        region: mean accumulated |audio coordinate| outside the face; rises linearly from zero
            over the head stage.
        lips: error of whole patches around the lips.
        eye: see EyeLoss.
        distortion: spread of the weights along a ray; the paper has none.
        mask: squared error of alpha against the parsing; the paper has none.
    """

    entropy: Weighted = field(default_factory=lambda: Weighted(1e-4))
    region: Weighted = field(default_factory=lambda: Weighted(0.1))
    lips: LipsLoss = field(default_factory=StructuralLips)
    eye: EyeLoss = field(default_factory=EyeLoss)
    distortion: Weighted = field(default_factory=Weighted)
    mask: Weighted = field(default_factory=Weighted)
