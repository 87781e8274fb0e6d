"""Features of long recordings, a chunk at a time, so that memory does not grow with their length.

Letters: S feature steps, C feature width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from radnerf.conventions import HOP

Sound = Float[np.ndarray, " samples"]
Features = Float[np.ndarray, "steps c"]


def in_chunks(
    features_of: Callable[[Sound], Features],
    wave: Sound,
    dim: int,
    chunk: int,
    margin: int = 0,
    edges: tuple[int, int] = (0, 0),
) -> Features:
    """Features of all ceil(samples / HOP) steps of a recording.

    Together the chunks are the features of the whole recording when a step depends on no sound
    beyond the margin and the edges.

    Args:
        features_of: features of the steps of a sound of S x HOP samples and the edges.
        dim: C.
        chunk: steps whose features are kept of each call.
        margin: more steps on either side, whose features are thrown away.
        edges: samples that features_of wants before the first step and after the last one;
            negative ones are left out. Beyond the ends of the recording is silence.
    """
    n_steps = -(-len(wave) // HOP)
    features = np.empty((n_steps, dim), np.float32)
    for start in range(0, n_steps, chunk):
        stop = min(start + chunk, n_steps)
        first, last = max(0, start - margin), min(n_steps, stop + margin)
        sound = _between(wave, first * HOP - edges[0], last * HOP + edges[1])
        features[start:stop] = features_of(sound)[start - first : stop - first]
    return features


def _between(wave: Sound, start: int, stop: int) -> Float[np.ndarray, " part"]:
    """Samples start .. stop of a recording that goes on in silence."""
    heard = wave[max(0, start) : max(0, stop)]
    before = min(max(0, -start), stop - start)
    return np.pad(heard, (before, stop - start - before - len(heard)))
