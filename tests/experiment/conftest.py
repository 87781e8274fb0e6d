"""One small portrait that the tests of losses and eyes go on from."""

from __future__ import annotations

import pytest
from experiment.training import fresh, small_clip, trained

from radnerf.data.datamodule import ClipDataModule
from radnerf.rendering.portrait import Portrait

# Neither is there at first: the tests add one of them.
BARE = ("loss.region.weight=0", "loss.entropy.weight=0")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> ClipDataModule:
    """Five seconds of the demo at 64 pixels."""
    return small_clip(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def head(data: ClipDataModule) -> Portrait:
    """A portrait after a short head stage, without region and entropy loss."""
    return trained(data, fresh(data), "head", 200, *BARE)
