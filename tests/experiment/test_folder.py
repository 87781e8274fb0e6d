import json
from pathlib import Path

import pytest

from radnerf.errors import UserError
from radnerf.experiment.folder import RunFolder, finished_run


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


def finished(root: Path, **settings: object) -> Path:
    folder = RunFolder(root, settings)
    folder.state["clip"] = "as it is"
    folder.finish()
    folder.release()
    return folder.path


def test_a_finished_run_is_known_by_its_settings_and_its_clip(tmp_path: Path) -> None:
    path = finished(tmp_path, seed=0, minutes=5, more=None, force=False)
    same = {"seed": 0, "minutes": 5, "more": 2, "force": True}
    assert finished_run(tmp_path, same, "as it is") == path
    assert finished_run(tmp_path, same, "another") is None
    assert finished_run(tmp_path, same | {"minutes": 6}, "as it is") is None
    begun = RunFolder(tmp_path, same)  # anew, and killed
    begun.state["clip"] = "as it is"
    begun.save()
    begun.release()
    assert begun.path != path and finished_run(tmp_path, same, "as it is") is None


def test_more_of_a_finished_run(tmp_path: Path) -> None:
    path = finished(tmp_path, seed=0, minutes=5)
    longer = RunFolder(tmp_path, {"seed": 0, "minutes": None}, more=10)
    assert longer.path == path and longer.resumed and longer.state["more"] == [10.0]
    longer.release()
    again = RunFolder(tmp_path, {"seed": 0, "minutes": 5}, more=10)  # after a kill
    assert again.path == path and again.state["more"] == [10.0]
    again.finish()
    again.release()
    last = RunFolder(tmp_path, {"seed": 0, "minutes": 5}, more=3)
    assert last.state["more"] == [10.0, 3.0] and not last.state["finished"]
    with pytest.raises(UserError, match="is being trained"):
        RunFolder(tmp_path, {"seed": 0, "minutes": 5}, more=3)


def test_there_is_no_more_of_what_has_not_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run"):
        RunFolder(tmp_path, {"seed": 0}, more=10)
    RunFolder(tmp_path, {"seed": 0}).release()
    with pytest.raises(UserError, match="has not finished"):
        RunFolder(tmp_path, {"seed": 0}, more=10)


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


def test_a_run_on_what_the_clip_was_before_is_left_alone(tmp_path: Path) -> None:
    first = RunFolder(tmp_path, {"seed": 0}, clip="as it was")
    first.state["clip"] = "as it was"
    first.save()
    first.release()
    second = RunFolder(tmp_path, {"seed": 0}, clip="as it is")
    assert second.path != first.path and not second.resumed
    second.state["clip"] = "as it is"
    second.save()
    second.release()
    again = RunFolder(tmp_path, {"seed": 0}, clip="as it was")
    assert again.path == first.path and again.resumed
