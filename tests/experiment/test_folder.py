import json
from pathlib import Path

from radnerf.experiment.folder import RunFolder


def test_an_unfinished_run_is_gone_on_with_and_a_finished_one_is_not(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "demo", {"steps": 5})
    first.state["seconds"]["head"] = 7.0
    first.save()
    path = first.path
    first.release()

    again = RunFolder(tmp_path / "demo", {"steps": 5})
    assert again.path == path and again.resumed and again.state["seconds"] == {"head": 7.0}
    again.finish()
    again.release()

    third = RunFolder(tmp_path / "demo", {"steps": 5})
    assert third.path != path and not third.resumed
    assert (tmp_path / "demo" / "latest").resolve() == third.path.resolve()


def test_other_settings_are_another_run(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "demo", {"steps": 5})
    first.release()
    assert RunFolder(tmp_path / "demo", {"steps": 6}).path != first.path


def test_a_run_in_progress_is_not_shared(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "demo", {"steps": 5})
    second = RunFolder(tmp_path / "demo", {"steps": 5})
    assert second.path != first.path


def test_a_damaged_note_is_not_gone_on_with(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "demo", {"steps": 5})
    (first.path / "run.json").write_text('{"finger')
    first.release()
    second = RunFolder(tmp_path / "demo", {"steps": 5})
    assert second.path != first.path
    assert json.loads((second.path / "run.json").read_text())["finished"] is False
