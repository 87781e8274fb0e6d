import sys

import pytest

from radnerf.data.clip import CONSENT, read_consent, write_consent
from radnerf.preprocess.source import ClipSource
from radnerf.preprocess.stages import file_hash
from radnerf.provenance.consent import NOT_NEEDED, Consent

ANSWER = "Anna Muster, 3 May 2026"


@pytest.fixture
def terminal(monkeypatch):
    """Somebody at a terminal, who is asked and answers."""
    asked = []

    def answer(question):
        asked.append(question)
        return f" {ANSWER} "

    monkeypatch.setattr("builtins.input", answer)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    return asked


def test_it_is_asked_once(tmp_path, terminal, caplog):
    for _ in range(2):
        consent = Consent.of(tmp_path, None, synthetic=False)
        consent.keep(tmp_path)
        assert consent.text == ANSWER
    assert len(terminal) == 1 and "can say anything" in terminal[0]
    assert read_consent(tmp_path) == ANSWER and not caplog.records


def test_no_answer_is_kept_too_and_said(tmp_path, terminal, monkeypatch, caplog):
    monkeypatch.setattr("builtins.input", lambda question: terminal.append(question) or "")
    for count in (1, 2):
        Consent.of(tmp_path, None, synthetic=False).keep(tmp_path)
        assert len(caplog.records) == count and "No consent" in caplog.text
    assert len(terminal) == 1 and read_consent(tmp_path) == ""


def test_without_a_terminal_nobody_is_asked_and_training_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    consent = Consent.of(tmp_path, None, synthetic=False)
    consent.keep(tmp_path)
    assert consent.text is None and len(caplog.records) == 1
    assert not (tmp_path / CONSENT).exists(), "the next one at a terminal is asked"


def test_the_option_wins_and_is_kept(tmp_path, terminal):
    write_consent(tmp_path, "nobody")
    Consent.of(tmp_path, ANSWER, synthetic=False).keep(tmp_path)
    assert read_consent(tmp_path) == ANSWER and not terminal


def test_a_person_made_from_a_seed_is_not_asked(tmp_path, terminal):
    Consent.of(tmp_path, None, synthetic=True).keep(tmp_path)
    assert read_consent(tmp_path) == NOT_NEEDED and not terminal


def test_what_was_said_of_another_video_does_not_count(tmp_path, terminal, monkeypatch):
    Consent.of(tmp_path, None, synthetic=False, video="hers").keep(tmp_path)
    assert Consent.of(tmp_path, None, synthetic=False, video="hers").text == ANSWER
    assert len(terminal) == 1
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    other = Consent.of(tmp_path, None, synthetic=False, video="his")
    other.keep(tmp_path)
    assert other.text is None and read_consent(tmp_path) is None


def test_a_video_in_the_demos_place_shows_a_person(tmp_path):
    demo = {"seconds": 1}
    assert ClipSource("demo", demo=demo).synthetic
    video = tmp_path / "anna.mp4"
    video.write_bytes(b"film")
    source = ClipSource("demo", demo=demo, video=str(video))
    assert not source.synthetic and source.video_hash() == file_hash(video)
