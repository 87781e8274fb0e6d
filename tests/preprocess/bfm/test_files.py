from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from face_models import face_arrays, write_model

from radnerf.errors import UserError
from radnerf.preprocess.bfm.files import model_files, read_arrays, read_model


def test_the_basel_model_and_its_conversion_are_one(tmp_path: Path) -> None:
    converted = read_model(model_files(write_model(tmp_path / "a")))
    original = read_model(model_files(write_model(tmp_path / "b", converted=False)))
    for field in fields(converted):
        a, b = getattr(converted, field.name), getattr(original, field.name)
        assert a.dtype == b.dtype and torch.allclose(a, b, atol=1e-6), field.name


def test_units_by_hand(tmp_path: Path) -> None:
    model = read_model(model_files(write_model(tmp_path)))
    info = face_arrays()["3DMM_info"]
    mean = info["mu_shape"].reshape(-1, 3)
    assert model.mean.numpy() == pytest.approx((mean - mean.mean(0)) / 1e5, abs=1e-5)
    # One standard deviation: component times its spread, in 10 cm.
    assert model.identity[1, 7, 2].item() == pytest.approx(
        info["b_shape"][1, 3 * 7 + 2] * 2 / 1e5, rel=1e-5
    )
    assert model.color[5].numpy() == pytest.approx(info["mu_tex"][15:18] / 255, rel=1e-5)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for path, words in (
        (None, r"tracker\.path is missing: .*faces\.dmi\.unibas\.ch"),
        (tmp_path / "none", r"none does not exist: .*01_MorphableModel\.mat"),
        (tmp_path, r"lacks topology_info\.npy and keys_info\.npy and 01_Morph.* and exp_info\.npy"),
    ):
        with pytest.raises(UserError, match=words):
            model_files(path)
    (write_model(tmp_path / "3DMM") / "3DMM_info.npy").unlink()
    with pytest.raises(UserError, match=r"lacks 01_MorphableModel\.mat and exp_info\.npy: give"):
        model_files(tmp_path / "3DMM")


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("bad.npy", np.array({"a": Runs()}, dtype=object))
    with pytest.raises(UserError, match="cannot be read as a dict of arrays"):
        read_arrays(Path("bad.npy"))
    assert not Path("ran").exists()


def test_dicts_of_old_and_new_pickles_are_read(tmp_path: Path) -> None:
    content = {"a": np.arange(6.0).reshape(2, 3), "b": np.int64(4)}
    for protocol in (2, 4, 5):
        path = tmp_path / f"{protocol}.npy"
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|O", "fortran_order": False, "shape": ()}
            )
            pickle.dump(np.array(content, dtype=object), file, protocol=protocol)
        read = read_arrays(path)
        assert np.array_equal(read["a"], content["a"]) and read["b"] == 4


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    np.save(tmp_path / "plain.npy", np.zeros(3))
    (tmp_path / "text.npy").write_text("no model")
    for name in ("plain.npy", "text.npy"):
        with pytest.raises(UserError, match="cannot be read as a dict of arrays"):
            read_arrays(tmp_path / name)
    np.save(folder / "keys_info.npy", np.array({"keyinds": np.arange(68)}, dtype=object))
    with pytest.raises(UserError, match="does not hold the Basel Face Model"):
        read_model(model_files(folder))
    basel = write_model(tmp_path / "basel", converted=False)
    (basel / "01_MorphableModel.mat").write_bytes(b"no matlab file" * 20)
    with pytest.raises(UserError, match=r"cannot be read as a \.mat file"):
        read_model(model_files(basel))
