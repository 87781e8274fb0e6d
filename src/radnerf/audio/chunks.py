"""Features of recordings of any length, a chunk at a time: of whole ones and of those to come.

Letters: S feature steps, C feature width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from radnerf.conventions import HOP

Sound = Float[np.ndarray, " samples"]
Features = Float[np.ndarray, "steps c"]


class FeatureStream:
    """Features of a recording whose samples come in pieces.

    Chunks lie at fixed places in the recording, so that features do not depend on how it is cut
    into pieces. Together the chunks are the features of the whole recording when a step depends on
    no sound beyond the margin and the edges. Little more than a chunk's sound is kept.

    Args:
        features_of: features of the steps of a sound of S x HOP samples and the edges.
        dim: C.
        chunk: steps whose features are kept of each call.
        margin: more steps before and after, whose features are thrown away.
        edges: samples that features_of wants before the first step and after the last one;
            negative ones are left out. Beyond the ends of the recording is silence.
    """

    def __init__(
        self,
        features_of: Callable[[Sound], Features],
        dim: int,
        chunk: int,
        margin: tuple[int, int] = (0, 0),
        edges: tuple[int, int] = (0, 0),
    ) -> None:
        self.features_of = features_of
        self.dim = dim
        self.chunk = chunk
        self.margin = margin
        self.edges = edges
        self._sound = np.zeros(0, np.float32)  # samples from self._start on
        self._start = 0
        self._next_step = 0

    def fresh(self) -> FeatureStream:
        """The same for another recording, which begins now."""
        return FeatureStream(self.features_of, self.dim, self.chunk, self.margin, self.edges)

    def needed(self, step: int) -> int:
        """How many samples the recording must have until the features of a step come out."""
        stop = (step // self.chunk + 1) * self.chunk
        return (stop + self.margin[1]) * HOP + max(0, self.edges[1])

    def push(self, samples: Sound) -> Features:
        """Features of the steps that are complete with the next samples."""
        self._sound = np.concatenate([self._sound, samples])
        parts = [np.zeros((0, self.dim), np.float32)]
        while self.needed(self._next_step) <= self._start + len(self._sound):
            first, stop = self._next_step, self._next_step + self.chunk
            parts.append(self._features(first, stop, stop + self.margin[1]))
            self._forget()
        return np.concatenate(parts)

    def end(self) -> Features:
        """Features of the steps that are left; the last one may be cut short."""
        n_steps = -(-(self._start + len(self._sound)) // HOP)
        parts = [np.zeros((0, self.dim), np.float32)]
        while self._next_step < n_steps:
            first, stop = self._next_step, min(self._next_step + self.chunk, n_steps)
            parts.append(self._features(first, stop, min(stop + self.margin[1], n_steps)))
        return np.concatenate(parts)

    def _features(self, first: int, stop: int, last: int) -> Features:
        """Of the steps first .. stop, from the sound up to the step `last`."""
        begin = max(0, first - self.margin[0])
        sound = self._between(begin * HOP - self.edges[0], last * HOP + self.edges[1])
        self._next_step = stop
        return self.features_of(sound)[first - begin : stop - begin]

    def _between(self, start: int, stop: int) -> Float[np.ndarray, " part"]:
        """Samples start .. stop of a recording that goes on in silence."""
        start, stop = start - self._start, stop - self._start
        known = self._sound[max(0, start) : max(0, stop)]
        before = min(max(0, -start), stop - start)
        return np.pad(known, (before, stop - start - before - len(known)))

    def _forget(self) -> None:
        """Drop the samples that no later step needs."""
        keep = max(0, (self._next_step - self.margin[0]) * HOP - self.edges[0])
        if keep > self._start:
            self._sound = self._sound[keep - self._start :].copy()
            self._start = keep


def in_chunks(
    features_of: Callable[[Sound], Features],
    wave: Sound,
    dim: int,
    chunk: int,
    margin: int = 0,
    edges: tuple[int, int] = (0, 0),
) -> Features:
    """Features of all ceil(samples / HOP) steps of a whole recording; see FeatureStream."""
    stream = FeatureStream(features_of, dim, chunk, (margin, margin), edges)
    return np.concatenate([stream.push(wave), stream.end()])
