"""Files that were written with marks: what they say, and what is told apart afterwards."""

import json
import logging
import stat

import av
import numpy as np
import pytest
from PIL import Image
from provenance.test_watermark import scene

from radnerf.errors import UserError
from radnerf.inference.video import VideoWriter
from radnerf.provenance import Marks, credentials
from radnerf.provenance.certificates import Identity, local_file
from radnerf.provenance.marks import sha256
from radnerf.verify.__main__ import main
from radnerf.verify.verdict import CHANGED, NOT_FOUND, OURS, examine

c2pa = pytest.importorskip("c2pa", reason="radnerf[provenance] is not installed")


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """A machine without a certificate."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "Anna Muster.safetensors").write_bytes(b"portrait")
    (tmp_path / "Anna speaks.wav").write_bytes(b"sound")


@pytest.fixture
def marks(tmp_path):
    return Marks.of(tmp_path / "Anna Muster.safetensors", tmp_path / "Anna speaks.wav")


def write(path, marks=None, n_frames=6, frames=None):
    with VideoWriter(path, 25.0, marks=marks) as video:
        for frame in frames or scene(n_frames):
            video.write(frame)
    return path


def manifest(path):
    """What the package's own reader finds, and its judgement."""
    context = c2pa.Context.from_dict({"trust": {"user_anchors": Identity.local().authority}})
    reader = c2pa.Reader(str(path), context=context)
    return reader.get_active_manifest(), reader.get_validation_state()


def data(found, label):
    return next(a["data"] for a in found["assertions"] if a["label"].startswith(label))


def test_a_video_is_signed_and_says_what_made_it(tmp_path, marks):
    video = write(tmp_path / "v.mp4", marks)
    found, state = manifest(video)
    assert state == "Trusted"
    assert found["claim_generator_info"][0]["name"] == "radnerf"
    (action,) = data(found, "c2pa.actions")["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    facts = data(found, credentials.ASSERTION)
    assert facts["portrait_sha256"] == sha256(tmp_path / "Anna Muster.safetensors")
    assert facts["audio_sha256"] == sha256(tmp_path / "Anna speaks.wav")
    assert b"Anna" not in video.read_bytes() and str(tmp_path).encode() not in video.read_bytes()
    assert sorted(p.name for p in tmp_path.glob("*v.mp4*")) == ["v.mp4"]
    raw = video.read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat"), "fast start"


def test_metadata_is_written_before_signing(tmp_path, marks):
    video = write(tmp_path / "v.mp4", marks)
    with av.open(str(video)) as file:
        field = json.loads(file.metadata["AIGC"])
    assert field["Label"] == "1" and field["ContentProducer"].startswith("radnerf")
    assert list(field) == [
        *("Label", "ContentProducer", "ProduceID", "ReservedCode1"),
        *("ContentPropagator", "PropagateID", "ReservedCode2"),
    ]
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in video.read_bytes()
    picture = tmp_path / "p.png"
    marks.write_picture(picture, scene(1)[0])
    with Image.open(picture) as image:
        assert "TC260:AIGC" in image.info["XML:com.adobe.xmp"]
    assert manifest(picture)[1] == "Trusted"


def test_a_rendering_in_a_filmed_video_names_it_as_its_parent(tmp_path, marks):
    parent = write(tmp_path / "Anna filmed.mp4")
    video = write(tmp_path / "v.mp4", marks.pasted_into(parent))
    found, state = manifest(video)
    assert state == "Trusted"
    (ingredient,) = found["ingredients"]
    assert ingredient["relationship"] == "parentOf"
    actions = data(found, "c2pa.actions")["actions"]
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[1]["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert b"Anna" not in video.read_bytes()


def test_what_shows_the_truth_too_is_a_composite(tmp_path, marks):
    found, _ = manifest(write(tmp_path / "v.mp4", marks.beside_truth()))
    (action,) = data(found, "c2pa.actions")["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")


def test_a_changed_byte_a_cut_and_a_reencoding_are_told_apart(tmp_path, marks):
    video = write(tmp_path / "v.mp4", marks)
    whole = examine(video)
    assert whole.code == OURS and whole.credentials.intact and whole.credentials.known
    assert whole.portrait == marks.portrait[:9]
    raw = bytearray(video.read_bytes())
    raw[-len(raw) // 3] ^= 1
    (tmp_path / "byte.mp4").write_bytes(raw)
    changed = examine(tmp_path / "byte.mp4")
    assert changed.code == CHANGED and "assertion.bmffHash.mismatch" in changed.sentence()
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[: len(raw) * 2 // 3])
    assert examine(tmp_path / "cut.mp4").code == CHANGED
    again = [f.to_ndarray(format="rgb24") for f in av.open(str(video)).decode(video=0)]
    encoded = examine(write(tmp_path / "again.mp4", frames=again))
    assert encoded.code == OURS and encoded.credentials is None and encoded.watermark is not None
    assert "no content credentials" in encoded.sentence()
    assert examine(write(tmp_path / "other.mp4")).code == NOT_FOUND


def test_another_machine_reads_it_as_signed_by_somebody_unknown(tmp_path, marks, monkeypatch):
    video = write(tmp_path / "v.mp4", marks)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    for _ in range(2):  # without and with a certificate of its own
        verdict = examine(video)
        assert verdict.code == OURS and verdict.credentials.intact
        assert not verdict.credentials.known and "does not know" in verdict.sentence()
        Identity.local()


def test_the_certificate_is_made_once_and_is_its_owners(caplog):
    caplog.set_level(logging.INFO)
    first, second = Identity.local(), Identity.local()
    assert first == second and len(caplog.records) == 1
    assert stat.S_IMODE(local_file().stat().st_mode) == 0o600
    assert first.chain.count("BEGIN CERTIFICATE") == 2 and first.algorithm == "es256"


def test_a_certificate_of_ones_own(tmp_path, marks):
    own = local_file().rename(tmp_path / "own.pem")
    other = Marks.of(tmp_path / "Anna Muster.safetensors", provenance=str(own))
    assert other.identity == marks.identity
    key = own.read_text()[own.read_text().index("-----BEGIN PRIVATE") :]
    strangers = Identity.local().chain
    for content, words in (
        ("nonsense", "cannot sign"),
        (strangers + key, "is not that of its key"),
    ):
        own.write_text(content)
        with pytest.raises(UserError, match=words):
            Marks.of(tmp_path / "Anna Muster.safetensors", provenance=str(own))


def test_marks_can_be_left_out_and_that_is_said(tmp_path, caplog):
    portrait = tmp_path / "Anna Muster.safetensors"
    bare = Marks.of(portrait, provenance="none", watermark="none")
    assert len(caplog.records) == 1 and "AI Act, Art. 50" in caplog.text
    write(tmp_path / "bare.mp4", bare)
    write(tmp_path / "plain.mp4")
    assert (tmp_path / "bare.mp4").read_bytes() == (tmp_path / "plain.mp4").read_bytes()
    caplog.clear()
    Marks.of(portrait)
    assert not [r for r in caplog.records if r.levelno > logging.INFO]
    with pytest.raises(UserError, match="watermark=loud is not a choice of picture, none"):
        Marks.of(portrait, watermark="loud")


def test_without_the_package_videos_are_watermarked_and_it_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(credentials, "installed", lambda: False)
    marks = Marks.of(tmp_path / "Anna Muster.safetensors")
    assert "Not signed" in caplog.text and "pip install 'radnerf[provenance]'" in caplog.text
    verdict = examine(write(tmp_path / "v.mp4", marks))
    assert verdict.watermark is not None and "not read" in verdict.sentence()
    with pytest.raises(UserError, match="need a package"):
        Marks.of(tmp_path / "Anna Muster.safetensors", provenance="own.pem")


def test_nothing_is_signed_when_the_writing_fails(tmp_path, marks):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "v.mp4", 25.0, marks=marks) as video:
        video.write(scene(1)[0])
        raise RuntimeError
    assert not list(tmp_path.glob("*v*.mp4"))


def test_verify_as_a_program(tmp_path, marks, capsys):
    video = write(tmp_path / "v.mp4", marks)
    assert main([str(video)]) == OURS
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and "signed on this machine and unchanged" in line
    assert main([str(video), "--json"]) == OURS
    told = json.loads(capsys.readouterr().out)
    assert told["made_by_radnerf"] and told["portrait"] == marks.portrait[:9]
    assert told["watermark"]["false_alarm"] < 1e-6
    (tmp_path / "text.mp4").write_text("no video")
    for path in ("text.mp4", "nothing.mp4"):
        assert main([str(tmp_path / path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_pictures_are_verified_too(tmp_path, marks):
    frame = scene(1)[0]
    marks.write_picture(tmp_path / "p.png", frame)
    assert examine(tmp_path / "p.png").code == OURS
    Image.fromarray(frame).save(tmp_path / "other.jpg")
    assert examine(tmp_path / "other.jpg").code == NOT_FOUND


def test_two_files_of_the_same_marks_are_the_same_frames(tmp_path, marks):
    frames = [
        [f.to_ndarray(format="rgb24") for f in av.open(str(path)).decode(video=0)]
        for path in (write(tmp_path / "a.mp4", marks), write(tmp_path / "b.mp4", marks))
    ]
    assert np.array_equal(*frames)
