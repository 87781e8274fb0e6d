import pytest
from inference.fakes import make_bundle, make_portrait_config

from radnerf.errors import UserError
from radnerf.inference.performer import load_portrait


def test_settings_that_do_not_fit():
    bundle = make_bundle(portrait=make_portrait_config() | {"head": {"_target_": "os.system"}})
    with pytest.raises(UserError, match=r"os\.system"):
        load_portrait(bundle)


@pytest.mark.parametrize("change", [{"hat": {}}, {"torso": None}])
def test_parts_that_are_none_of_a_portrait(change):
    config = {k: v for k, v in (make_portrait_config() | change).items() if v is not None}
    with pytest.raises(UserError, match="made of audio_net, head and torso"):
        load_portrait(make_bundle(portrait=config))
