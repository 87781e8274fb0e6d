import json

import pytest
import torch

from radnerf.errors import UserError
from radnerf.metrics import KEYS, peak_memory_mb, write_metrics


def test_report_has_every_name_and_only_finite_numbers(tmp_path):
    path = tmp_path / "run" / "metrics.json"
    write_metrics(
        path,
        {
            "head.psnr": 34.123456,
            "full.lmd": float("nan"),
            "full.lpips": None,
            "full.lpips.reason": "no weights",
            "frames.train": 10,
            "device": "cpu",
            "full.mouth_correlation": 0.9,
        },
    )
    report = json.loads(path.read_text(), parse_constant=lambda c: pytest.fail(c))
    assert set(KEYS) <= report.keys()
    assert report["head.psnr"] == 34.1235 and report["frames.train"] == 10
    assert report["full.lmd"] is None and report["full.lmd.reason"] == "not measured"
    assert report["full.lpips.reason"] == "no weights"
    assert report["full.mouth_correlation"] == 0.9
    assert not any(isinstance(value, (dict, list)) for value in report.values())
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]


def test_a_report_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_metrics(tmp_path / "file" / "metrics.json", {})


def test_peak_memory_counts_what_is_held():
    before = peak_memory_mb(torch.device("cpu"))
    held = torch.ones(60 << 20)  # 240 MB
    assert 100 < before < 16_000
    assert peak_memory_mb(torch.device("cpu")) >= 240 and held.sum() > 0
