"""What the entry scripts share: Hydra with errors in one sentence."""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from radnerf import sweep
from radnerf.errors import UserError
from radnerf.runtime import signals
from radnerf.runtime.programs import INTERRUPTED, tell

failed_jobs: list[sweep.Job] = []  # of a sweep, in this process


def run(
    task: Callable[[DictConfig], Any], config_name: str, paths: Collection[str] = ()
) -> NoReturn:
    """Run a script's task with its Hydra configuration, then exit.

    What the user can solve is one line on stderr and exit code 1; Ctrl-C is exit code 130.

    Args:
        task: takes the composed configuration.
        config_name: the file in conf/ beside the script, without .yaml. Its folder is the root of
            the option groups: in another's folder, `audio=x` would choose from the group audio.
        paths: options whose values may hold any characters without quotes.
    """
    # Hydra hands exceptions on instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # OpenMP threads spin long for work by default, which slows training tenfold on a busy machine;
    # about 20 microseconds are enough on a quiet one.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    signals.heed()
    script = Path(task.__code__.co_filename).resolve()
    config = script.parent / "conf" / config_name
    try:
        sys.argv[1:] = _checked(sys.argv[1:], paths)
        hydra.main(str(config.parent), config.name, version_base="1.3")(_guarded(task))()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _fail(explain(error, script.name, config))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(1 if failed_jobs else 0)


def _guarded(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """The task, leaving at once on a user's error: Hydra would print the options again.

    A job of a sweep that fails notes it, and the sweep goes on.
    """

    script = Path(task.__code__.co_filename).name

    def guarded(config: DictConfig) -> Any:
        job = sweep.current_job(script)
        if job is not None:
            return _job(attempt, config, job)
        try:
            return attempt(config)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            _fail(explain(error, script))

    def attempt(config: DictConfig) -> Any:
        # Unresolved: interpolations of missing values would fail one by one.
        if missing := list(_missing(OmegaConf.to_container(config))):
            given = " ".join(f"{name}=..." for name in missing)
            raise UserError(f"What to use is missing: add {given}; {_help(script)}")
        return task(config)

    # Hydra names the job after the module of the task.
    guarded.__module__ = task.__module__
    return guarded


def _job(task: Callable[[DictConfig], Any], config: DictConfig, job: sweep.Job) -> Any:
    """A job of a sweep: its result, or NaN (no optimum of any search) when it fails."""
    signals.heed()  # a launcher may have started this process for the job
    job.note("running")
    try:
        sweep.distribute_cores()
        result = task(config)
    except Exception as error:
        try:
            sentence = " ".join(explain(error, job.command.split()[1]).split())
        except Exception:
            traceback.print_exc()
            sentence = f"{type(error).__name__}: {error}"
        job.note("failed", sentence)
        failed_jobs.append(job)
        tell(sentence)
        return float("nan")
    job.note("finished")
    return result


class SweepSummary(Callback):
    """Says at the end of a sweep which jobs failed and how to repeat them; then exit code 1."""

    def on_multirun_end(self, config: DictConfig, **_kwargs: Any) -> None:
        text, n_failed = sweep.summary(Path(config.hydra.sweep.dir))
        print(text, flush=True)
        if n_failed:
            sys.exit(1)


def _missing(config: Any, prefix: str = "") -> Iterator[str]:
    """Names of the options that have no value yet."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if value == "???":
            yield f"{prefix}{key}"
        yield from _missing(value, f"{prefix}{key}.")


def explain(error: BaseException, script: str, config: Path | None = None) -> str:
    """One sentence for an error of the user's, or of Hydra's about the user's options.

    Args:
        script: the program's file name.
        config: its configuration file without .yaml, to find the option that was meant.

    Raises:
        BaseException: the error itself, when it is neither.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UserError):
            return str(link)
        link = link.__cause__ or link.__context__
    more, text = _help(script), str(error)
    if found := re.search(r"hydra/(launcher|sweeper)/(?P<name>\w+)", text):
        extra = {"joblib": "sweep", "optuna": "optuna", "ray": "ray"}.get(found["name"], "slurm")
        return f"hydra/{found[1]}={found['name']} is not installed: pip install 'radnerf[{extra}]'."
    if found := re.search(r"Could not override '(?P<name>[^']+)'", text):
        return f"There is no option '{found['name']}': {_meant(found['name'], config)}{more}"
    if found := re.search(r"Could not (?:find|load) '(?P<name>[^']+)'", text):
        group, _, choice = found["name"].rpartition("/")
        known = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        choices = f"choose one of {', '.join(known)}" if known else more
        return f"There is no {group or 'configuration'}={choice}: {choices}"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        first = text.strip().splitlines()[0].rstrip(".")
        # Hydra's constructor errors wrap others, whose traceback a developer needs.
        if "Error in call to target" not in first:
            return f"The options cannot be used ({first}): {more}"
    raise error


def _meant(name: str, config: Path | None) -> str:
    """The option whose name is most like this one, as a question; nothing if none is."""
    if config is None:
        return ""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config.parent), version_base="1.3"):
            options = OmegaConf.to_container(compose(config.name))
    except (HydraException, OmegaConfBaseException):  # the files themselves are wrong
        return ""
    near = difflib.get_close_matches(name, list(_names(options)), 1, 0.75)
    return f"did you mean '{near[0]}'? " if near else ""


def _names(config: Any, prefix: str = "") -> Iterator[str]:
    """Names of all options and groups of options."""
    for key, value in config.items() if isinstance(config, dict) else ():
        yield f"{prefix}{key}"
        yield from _names(value, f"{prefix}{key}.")


def quote(argument: str) -> str:
    """The option name=value with its value in Hydra's quotes, as it stands."""
    name, _, value = argument.partition("=")
    # A backslash is literal except before the quote and at the end.
    value = re.sub(r"(\\*)'", lambda m: m[1] * 2 + r"\'", value)
    value = re.sub(r"(\\+)$", lambda m: m[1] * 2, value)
    return f"{name}='{value}'"


def _checked(arguments: Sequence[str], paths: Collection[str]) -> list[str]:
    """Command-line arguments that Hydra can read."""
    parser = get_args_parser()
    more = _help(Path(sys.argv[0]).name)

    def refuse(message: str) -> NoReturn:
        name = message.removeprefix("unrecognized arguments: ")
        raise UserError(f"There is no option '{name}': {more}")

    parser.error = refuse  # type: ignore[method-assign]
    known = parser.parse_args(arguments)
    checked = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument in known.overrides:
            if name.lstrip("+") in paths and equals and not _hydra_value(value):
                # Who agreed, and when, has a comma of its own.
                swept = known.multirun and name != "consent" and _parses(argument)
                argument = argument if swept else quote(argument)
            if not _parses(argument):
                raise UserError(f"The option '{argument}' cannot be read: write name=value; {more}")
        checked.append(argument)
    return checked


def _hydra_value(value: str) -> bool:
    """Whether a value is quoted by the user, empty, or refers to other options."""
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return quoted or value in ("", "null") or "${" in value


def _parses(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def _help(script: str) -> str:
    return f"`python {script} --help` lists the options."


def _fail(sentence: str) -> NoReturn:
    tell(sentence)
    sys.exit(1)
