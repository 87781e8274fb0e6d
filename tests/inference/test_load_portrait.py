import pytest
from inference.fakes import make_bundle

from radnerf.errors import UserError
from radnerf.inference.driver import load_portrait


def test_settings_that_do_not_fit():
    bundle = make_bundle(portrait={"audio_net": {"_target_": "os.system", "command": "true"}})
    with pytest.raises(UserError, match=r"os\.system"):
        load_portrait(bundle)
