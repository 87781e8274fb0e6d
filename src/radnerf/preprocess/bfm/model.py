"""A face as a sum: mean, what makes a person, what makes an expression.

Letters: V vertices, I identity, E expression and C color components, F triangles. Vertices are in
10 cm, x to the image's right, y up, z towards the viewer; coefficients of 1 are one standard
deviation among people.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class MorphableModel:
    """The Basel Face Model's parts, and which vertices are the 68 landmarks."""

    mean: Float[Tensor, "v 3"]
    identity: Float[Tensor, "i v 3"]
    expression: Float[Tensor, "e v 3"]
    color: Float[Tensor, "v 3"]  # RGB, 0 to 1
    colors: Float[Tensor, "c v 3"]
    triangles: Int[Tensor, "f 3"]
    keys: Int[Tensor, " 68"]
    # The jaw line that is seen runs elsewhere when the head turns: candidates for points 0 to 7
    # (left of the chin) and 9 to 16.
    left: Int[Tensor, "8 l"]
    right: Int[Tensor, "8 r"]

    def to(self, device: torch.device) -> MorphableModel:
        """The same on a device."""
        return MorphableModel(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def vertices(
        self, identity: Float[Tensor, " i"], expression: Float[Tensor, "t e"]
    ) -> Float[Tensor, "t v 3"]:
        """The faces of one person."""
        person = self.mean + torch.einsum("i,ivc->vc", identity, self.identity)
        return person + torch.einsum("te,evc->tvc", expression, self.expression)

    def landmarks_only(self) -> MorphableModel:
        """A model of the vertices that landmarks can be, which is far smaller; no triangles."""
        wanted = torch.cat([self.keys, self.left.flatten(), self.right.flatten()])
        kept, place = wanted.unique(return_inverse=True)
        keys, left, right = place.split([68, self.left.numel(), self.right.numel()])
        return MorphableModel(
            mean=self.mean[kept],
            identity=self.identity[:, kept],
            expression=self.expression[:, kept],
            color=self.color[kept],
            colors=self.colors[:, kept],
            triangles=self.triangles[:0],
            keys=keys,
            left=left.view_as(self.left),
            right=right.view_as(self.right),
        )

    def seen_keys(self, x: Float[Tensor, "t v"]) -> Int[Tensor, "t 68"]:
        """The vertex of each landmark: of the jaw's candidates the outermost, by their image x."""
        keys = self.keys.repeat(len(x), 1)
        for columns, candidates, outermost in (
            (slice(0, 8), self.left, torch.argmin),
            (slice(9, 17), self.right, torch.argmax),
        ):
            chosen = outermost(x[:, candidates], dim=-1)
            keys[:, columns] = candidates[torch.arange(8, device=x.device), chosen]
        return keys
