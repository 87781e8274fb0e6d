"""What may become a part of a portrait: registered components, of this project and of plugins."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from radnerf import registry
from radnerf.errors import UserError
from radnerf.fields.encodings import FrequencyEncoding, GridEncoding

SOURCE = Path(registry.__file__).parent
PLUGIN = """
from radnerf.fields.encodings import FrequencyEncoding
from radnerf.registry import component

@component("encoder")
class Waves(FrequencyEncoding):
    pass
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module in the current folder."""
    name = f"waves_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    return name


def test_every_module_that_registers_is_listed() -> None:
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(decorator).startswith("component(") for decorator in node.decorator_list
            ):
                parts = path.relative_to(SOURCE.parent).with_suffix("").parts
                found.add(".".join(parts))
    assert found == set(registry.BUILT_IN)


def test_nothing_else_of_ours_is_imported_by_the_registry() -> None:
    code = (
        "import sys, radnerf.registry\n"
        "print([name for name in sys.modules if name.startswith('radnerf.')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['radnerf.errors', 'radnerf.registry']"


def test_nested_components_are_built() -> None:
    config = {"_target_": "radnerf.fields.encodings.FrequencyEncoding", "dim": 3, "widths": [8, 4]}
    built = registry.build(config, "encoder")
    assert isinstance(built, FrequencyEncoding) and built.width == 4
    assert registry.build([1, {"a": [2]}]) == (1, {"a": (2,)})


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("os.system", r"plugins=\[os\]"),
        ("a.b.Clay", r"plugins=\[a\.b\]"),
        ("radnerf.fields.mlp.MLP", r"plugins=\[my_package\.my_module\]"),
        (["radnerf.fields.encodings.GridEncoding"], r"plugins=\[my_package\.my_module\]"),
        (None, r"plugins=\[my_package\.my_module\]"),
    ],
)
def test_what_is_not_registered_is_refused_and_not_imported(target: object, advice: str) -> None:
    with pytest.raises(UserError, match=f"not registered.*{advice}"):
        registry.build({"_target_": target})
    assert "a" not in sys.modules


def test_a_component_of_another_kind_is_refused() -> None:
    grid = {"_target_": "radnerf.fields.encodings.GridEncoding", "dim": 3}
    with pytest.raises(UserError, match=r"field .*GridEncoding.* not registered"):
        registry.build(grid, "field")


def test_settings_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(UserError, match="GridEncoding has settings that do not fit"):
        registry.build({"_target_": registry.path_of(GridEncoding), "dim": 3, "colour": 1})


def test_plugins_are_found_in_the_current_folder(plugin: str) -> None:
    config = {"_target_": f"{plugin}.Waves", "dim": 2}
    with pytest.raises(UserError, match=rf"plugins=\[{plugin}\]"):
        registry.build(config)
    registry.load_plugins([plugin])
    assert registry.build(config, "encoder").dim == 2


def test_installed_plugins_need_no_option(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.append("")
    point = SimpleNamespace(name="waves", load=lambda: importlib.import_module(plugin))
    groups = {"radnerf.plugins": [point]}
    monkeypatch.setattr(registry, "entry_points", lambda group: groups[group])
    registry._load_known.cache_clear()
    assert f"{plugin}.Waves" in registry.registered("encoder")


def test_a_broken_plugin_is_one_sentence(plugin: str) -> None:
    Path(f"{plugin}.py").write_text("import nothing_of_that_name")
    with pytest.raises(UserError, match=f"{plugin} cannot be imported.*nothing_of_that_name"):
        registry.load_plugins([plugin])
    with pytest.raises(UserError, match=r"no list: write plugins=\[waves\]"):
        registry.load_plugins("waves")


def test_names_are_of_one_class() -> None:
    with pytest.raises(ValueError, match=r"is radnerf\.audio\.extractors\.MelExtractor already"):
        registry.component("extractor", "mel")(type("Other", (), {}))
    with pytest.raises(ValueError, match="no kind of component"):
        registry.component("hat")
