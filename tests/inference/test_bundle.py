import dataclasses
import json
import struct

import pytest
import torch
from inference.fakes import make_bundle
from safetensors.torch import load_file, save_file

from radnerf.errors import UserError
from radnerf.inference.bundle import PortraitBundle


@pytest.fixture
def path(tmp_path):
    return tmp_path / "Ünder (1), x=y.safetensors"


def rewrite(path, metadata=None, **tensors):
    """Change the header or tensors of a portrait file."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    old = json.loads(raw[8 : 8 + length])["__metadata__"]
    save_file({**load_file(path), **tensors}, path, {**old, **(metadata or {})})


def change_facts(path, **changes):
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    facts = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["facts"])
    rewrite(path, {"facts": json.dumps({**facts, **changes})})


def test_round_trip_keeps_everything(path):
    bundle = make_bundle()
    bundle.save(path)
    again = PortraitBundle.load(path)
    for field in dataclasses.fields(PortraitBundle):
        old, new = getattr(bundle, field.name), getattr(again, field.name)
        if isinstance(old, torch.Tensor):
            assert old.dtype == new.dtype and torch.equal(old, new), field.name
        elif field.name == "weights":
            assert old.keys() == new.keys() and all(torch.equal(old[k], new[k]) for k in old)
        else:
            assert old == new, field.name
    assert list(path.parent.iterdir()) == [path]
    (path.parent / "other").touch()
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode, "others may read it"


def test_consent_is_kept_and_portraits_of_before_have_none(path):
    make_bundle(consent="Änna, 3 May 2026").save(path)
    assert PortraitBundle.load(path).consent == "Änna, 3 May 2026"
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    facts = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["facts"])
    del facts["consent"]
    rewrite(path, {"facts": json.dumps(facts)})
    assert PortraitBundle.load(path).consent is None


def test_weights_that_share_memory_are_saved(path):
    table = torch.rand(4, 2)
    make_bundle(weights={"a": table, "b": table[1:]}).save(path)
    assert torch.equal(PortraitBundle.load(path).weights["b"], table[1:])


def test_failed_save_leaves_the_old_file(path):
    make_bundle().save(path)
    old = path.read_bytes()
    with pytest.raises(TypeError):
        make_bundle(extractor={"name": object()}).save(path)
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]


def test_missing_file(path):
    with pytest.raises(UserError, match="no portrait file"):
        PortraitBundle.load(path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_cut_short(path, keep):
    make_bundle().save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(UserError, match="cut short"):
        PortraitBundle.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\x00" * 100, b"PK\x03\x04" * 99, b"\x80\x02}q\x00." * 20, b"{}" * 50]
)
def test_garbage_is_not_a_portrait(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a portrait file"):
        PortraitBundle.load(path)


def test_other_safetensors_file_is_not_a_portrait(path):
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(UserError, match="not a portrait file"):
        PortraitBundle.load(path)


def test_other_version(path):
    make_bundle(version=7).save(path)
    with pytest.raises(UserError, match="of version 7, and this program reads versions 2 and 3"):
        PortraitBundle.load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"poses": torch.zeros(11, 3, 4)},
        {"poses": torch.zeros(0, 4, 4)},
        {"poses": torch.full((11, 4, 4), torch.nan)},
        {"eye": torch.zeros(3)},
        {"eye": torch.zeros(11, dtype=torch.int64)},
        {"background": torch.zeros(41, 30, 3, dtype=torch.uint8)},
    ],
)
def test_parts_that_do_not_fit(path, tensors):
    make_bundle().save(path)
    rewrite(path, **tensors)
    with pytest.raises(UserError, match="damaged"):
        PortraitBundle.load(path)


@pytest.mark.parametrize("change", [{"focal": "x"}, {"focal": -1.0}, {"size": [1]}, {"fps": 0.0}])
def test_facts_that_do_not_fit(path, change):
    make_bundle().save(path)
    change_facts(path, **change)
    with pytest.raises(UserError, match="damaged"):
        PortraitBundle.load(path)


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "os.system", "command": "touch pwned"},
        {"head": {"grids": [{"_target_": "radnerf.fields.head.torch.load", "f": "x"}]}},
        {"head": {"_target_": "radnerf.fields.head.HeadField", "_args_": ["x"]}},
        {"head": {"_target_": ["radnerf.fields.head.HeadField"]}},
    ],
)
@pytest.mark.parametrize("where", ["portrait", "extractor"])
def test_strange_callables_are_refused(path, config, where):
    make_bundle(**{where: config}).save(path)
    with pytest.raises(UserError, match=r"no part of a portrait|is not registered"):
        PortraitBundle.load(path)
