"""The components that a portrait can be made of: this project's, and those of plugins.

A class becomes a component by a decorator:

    @component("encoder")
    class MyEncoding(Encoding): ...

Configs and portrait files name it by `_target_`, its module and class. A portrait file only ever
gets what is registered already: it never causes an import. What is here of ourselves is the list
BUILT_IN; users add modules by the option plugins=[my_package.my_module], or for good by an entry
point of the group `radnerf.plugins` in a package that is installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from radnerf.errors import UserError

C = TypeVar("C", bound=type)

ENTRY_POINTS = "radnerf.plugins"
KINDS = (
    *("anchors", "audio_net", "cameras", "conditioning", "encoder", "extractor"),
    *("field", "grid", "head", "marching", "torso"),
)
# The modules of this project that register components.
BUILT_IN = (
    "radnerf.audio.deepspeech",
    "radnerf.audio.extractors",
    "radnerf.audio.phonemes",
    "radnerf.audio.precomputed",
    "radnerf.audio.speech_models",
    "radnerf.fields.audio_net",
    "radnerf.fields.cameras",
    "radnerf.fields.conditioning",
    "radnerf.fields.encodings",
    "radnerf.fields.head",
    "radnerf.fields.torso",
    "radnerf.heads.radiance",
    "radnerf.heads.marching",
    "radnerf.fields.occupancy",
    "radnerf.torsos.planar",
)

_components: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}


def component(kind: str, name: str | None = None) -> Callable[[C], C]:
    """Register a class as a component of a kind.

    Args:
        kind: one of KINDS.
        name: what files call it; None for its module and class, as a config's `_target_` does.

    Raises:
        ValueError: no such kind, or the name is that of another class.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of component: choose one of {', '.join(KINDS)}")

    def register(made: C) -> C:
        known, key = _components[kind], name or path_of(made)
        if key in known and path_of(known[key]) != path_of(made):
            raise ValueError(f"{key!r} is {path_of(known[key])} already, and not {path_of(made)}")
        known[key] = made
        return made

    return register


def path_of(made: type) -> str:
    """Module and name of a class."""
    return f"{made.__module__}.{made.__qualname__}"


def registered(kind: str) -> Mapping[str, type]:
    """All components of a kind, by name."""
    _load_known()
    return _components[kind]


def is_registered(target: Any) -> bool:
    """Whether there is a component of that name."""
    _load_known()
    return any(target in known for known in _components.values() if isinstance(target, str))


def find(kind: str, name: Any) -> type:
    """The component of a kind and name.

    Raises:
        UserError: nothing has registered it.
    """
    known = registered(kind)
    if not isinstance(name, str) or name not in known:
        raise UserError(_missing(kind, name))
    return known[name]


def build(config: Any, kind: str | None = None) -> Any:
    """Construct the nested components that a config names, as Hydra would, but only known ones.

    Args:
        kind: of the outermost; None for any.

    Raises:
        UserError: a `_target_` that nothing has registered, or settings that do not fit.
    """
    if isinstance(config, list):
        return tuple(build(item) for item in config)  # JSON has no tuples
    if not isinstance(config, dict):
        return config
    target = config.get("_target_")
    if "_target_" in config:
        check(target, kind)  # before its parts: the outermost says best what is missing
    values = {key: build(value) for key, value in config.items() if key != "_target_"}
    if "_target_" not in config:
        return values
    made = next(known[target] for known in _components.values() if target in known)
    try:
        return made(**values)
    except TypeError as error:
        raise UserError(
            f"The portrait's part {made.__name__} has settings that do not fit: {error}."
        ) from error


def check(target: Any, kind: str | None = None) -> None:
    """Find out whether there is a component of that name (and kind).

    Raises:
        UserError: there is not.
    """
    if kind is not None:
        find(kind, target)
    elif not is_registered(target):
        raise UserError(_missing("component", target))


def load_plugins(modules: Iterable[str]) -> None:
    """Import modules of the user's that register components.

    They are looked for where Python looks, and in the current folder.

    Raises:
        UserError: one cannot be imported.
    """
    if isinstance(modules, str):
        raise UserError(f"plugins={modules} is no list: write plugins=[{modules}].")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a user's module raises
            raise UserError(
                f"The plugin {module} cannot be imported ({type(error).__name__}: {error}): it "
                "must be installed, or lie in the current folder or one of PYTHONPATH."
            ) from error


@cache
def _load_known() -> None:
    """Import what registers components without being asked for."""
    for module in BUILT_IN:
        importlib.import_module(module)
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # whatever a module of somebody's raises
            raise UserError(
                f"The installed plugin {point.name} cannot be loaded ({type(error).__name__}: "
                f"{error}): repair or uninstall it."
            ) from error


def _missing(kind: str, name: Any) -> str:
    """What to tell about a component that nothing has registered."""
    module = name.rpartition(".")[0] if isinstance(name, str) else ""
    ours = not module or module.startswith("radnerf.")
    advice = "plugins=[my_package.my_module]" if ours else f"plugins=[{module}]"
    what = "component" if kind == "component" else kind.replace("_", " ")
    return (
        f"The {what} {name!r} of this portrait is not registered: give the module that "
        f"registers it, {advice}."
    )
