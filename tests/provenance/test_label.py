import numpy as np
import pytest

from radnerf.errors import UserError
from radnerf.provenance.label import HEIGHT, TEXT, Label


@pytest.mark.parametrize("size", [(160, 160), (512, 512), (1080, 1920)])
def test_letters_are_as_high_as_the_law_asks(size):
    frame = np.full((*size, 3), 128, np.uint8)
    shown = Label().draw(frame)
    bright = np.argwhere((shown > 230).all(-1))
    assert np.ptp(bright[:, 0]) + 1 >= HEIGHT * min(size)
    changed = np.argwhere((shown != frame).any(-1))
    assert changed.min() == 0 and changed[:, 0].max() < size[0] / 4, "the top left corner"
    assert (frame == 128).all(), "the frame that was given stays as it is"


def test_every_frame_has_it():
    label, frames = Label("KI-generiert"), np.random.default_rng(0).integers(0, 60, (3, 90, 400, 3))
    for frame in frames.astype(np.uint8):
        assert (label.draw(frame) > 240).sum() > 100


def test_what_the_option_says():
    assert Label.of(False) is None
    assert Label.of(True).text == TEXT
    assert Label.of("Made with AI").text == "Made with AI"


@pytest.mark.parametrize("text", ["", "  ", "人工智能生成"])
def test_what_cannot_be_shown_is_refused(text):
    with pytest.raises(UserError, match="label_font"):
        Label(text)


def test_a_text_too_long_is_refused():
    with pytest.raises(UserError, match="shorter text"):
        Label("A" * 80).draw(np.zeros((100, 100, 3), np.uint8))


def test_a_file_that_is_no_font(tmp_path):
    (tmp_path / "f.ttf").write_text("no")
    with pytest.raises(UserError, match="is no font"):
        Label("x", tmp_path / "f.ttf")


@pytest.mark.parametrize("given", ["true", "True", True])
def test_true_is_the_usual_text_however_it_comes(given: str | bool) -> None:
    label = Label.of(given)
    assert label is not None and label.text == TEXT


@pytest.mark.parametrize("given", ["false", False])
def test_false_is_no_label(given: str | bool) -> None:
    assert Label.of(given) is None
