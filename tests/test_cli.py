import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from radnerf.cli import quote

REPOSITORY = Path(__file__).parents[1]

SCRIPT = """
from hydra.utils import instantiate
from radnerf.cli import run
from radnerf.errors import UserError

def main(config):
    if config.then == "bug":
        raise RuntimeError("a bug")
    if config.then == "part":
        instantiate({"_target_": "radnerf.inference.bundle.PortraitBundle.load", "path": "no"})
    if config.then == "user":
        raise UserError("Too bad,\\nsaid twice.")
    if config.then == "wait":
        import pathlib, time
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            pathlib.Path("cleaned").touch()
    print("|".join(str(v) for v in (config.file, config.count, config.part.name)))

if __name__ == "__main__":
    run(main, "own/config", paths=("file",))
"""

CONFIG = """
defaults:
  - _self_
  - part: one
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
file: ???
count: 1
then: print
hydra: {output_subdir: null, run: {dir: .}, sweep: {dir: sweep}}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    root = tmp_path_factory.mktemp("scripts")
    (root / "conf/own/part").mkdir(parents=True)
    # A group beside the script's folder that has the name of one of its options.
    (root / "conf/file").mkdir()
    (root / "conf/own/config.yaml").write_text(CONFIG)
    for name in ("one", "two"):
        (root / f"conf/own/part/{name}.yaml").write_text(f"name: {name}\n")
    (root / "script.py").write_text(SCRIPT)
    return root / "script.py"


def call(script, *arguments, folder=None):
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        cwd=folder or script.parent,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "value",
    [
        "a b",
        "a,b",
        "x(1)[2]{3}",
        "it's",
        "\\",
        "a\\'b",
        "C:\\x\\",
        "k=v",
        "ünï—日本",
        "#00ff00",
        "7",
    ],
)
def test_quoting_survives_the_grammar(value):
    override = OverridesParser.create().parse_override(quote(f"a.b={value}"))
    assert (override.key_or_group, override.value()) == ("a.b", value)


@pytest.mark.parametrize(
    "name", ["dir/with space (1), x=y.wav", "Ångström.wav", "1.5", "a'b", "'a b'"]
)
def test_paths_need_no_quotes(script, name):
    result = call(script, f"file={name}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{name.strip(chr(39))}|1|one"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fiel=x"], ["'fiel'", "did you mean 'file'?", "script.py --help"]),
        (["file=x", "part.nam=1"], ["'part.nam'", "did you mean 'part.name'?"]),
        (["file=x", "light=1"], ["There is no option 'light': `python"]),
        (["--fiel"], ["'--fiel'"]),
        (["file"], ["'file'", "name=value"]),
        (["file=x", "count=[1"], ["'count=[1'", "name=value"]),
        ([], ["file=", "missing"]),
        (["file=x", "part=three"], ["part=three", "one, two"]),
        (["file=x", "count=1,2"], ["count"]),
        (["file=x", "then=user"], ["Too bad, said twice."]),
        (["file=x", "then=user", "-m"], ["Too bad, said twice."]),
        (["file=x", "then=part"], ["There is no portrait file no"]),
    ],
)
def test_errors(script, arguments, words):
    result = call(script, *arguments)
    assert result.returncode == 1
    assert all(word in result.stderr for word in words), result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert not result.stdout


def test_a_bug_shows_where_it_is(script):
    result = call(script, "file=x", "then=bug")
    assert result.returncode == 1 and "Traceback" in result.stderr and "a bug" in result.stderr


def test_sweeps_help_and_other_folders(script, tmp_path):
    result = call(script, "-m", "file=a,b", "count=1,2", folder=tmp_path)
    assert result.stdout.split() == ["a|1|one", "a|2|one", "b|1|one", "b|2|one"]
    assert "part" in call(script, "--help", folder=tmp_path).stdout
    assert "count: 5" in call(script, "--cfg", "job", "count=5", folder=tmp_path).stdout
    (tmp_path / "clean").mkdir()
    assert call(script, "file=a", folder=tmp_path / "clean").returncode == 0
    assert not list((tmp_path / "clean").iterdir())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]
)
def test_signals_clean_up(script, tmp_path, number, code):
    command = [sys.executable, str(script), "file=a", "then=wait"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == code and "Traceback" not in errors
    assert (tmp_path / "cleaned").exists()
