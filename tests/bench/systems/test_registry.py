from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bench
from bench.errors import UsageError
from bench.systems.registry import Registry, System, load_object

ADAPTER = """
import bench
from neighbour import Net

@bench.system("ucf101/my-net", inputs={"rgb": (3, 8, 8)}, frames=8, published={"top1": 80.5, "source": "somewhere"})
def my_net():
    return Net()

not_a_system = 3
"""
NEIGHBOUR = "from torch import nn\n\nclass Net(nn.Flatten): pass\n"


@pytest.fixture(autouse=True)
def _own_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_systems.py").write_text(ADAPTER)
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    return tmp_path


def make(**changes: Any) -> System:
    arguments: dict[str, Any] = {"id": "ucf101/x", "build": nn.Identity, "inputs": {"rgb": (3, 8, 8)}}
    return System(**{**arguments, **changes})


def test_the_decorator_makes_a_system_of_a_function() -> None:
    @bench.system("ucf101/x", inputs={"rgb": (1, 3, 8, 8), "flow": (10, 8, 8)}, frames=4)
    def build() -> nn.Module:
        return nn.Flatten()

    assert isinstance(build, bench.System)
    assert isinstance(build.build(), nn.Flatten)
    assert (build.workload, build.title, build.frames, build.adaptive) == ("ucf101", "ucf101/x", 4, False)
    assert (build.modalities, build.shapes) == ("R+F", "rgb 1x3x8x8, flow 10x8x8")


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "a/b/c"},
        {"id": "with space"},
        {"inputs": {}},
        {"inputs": (3, 8, 8)},
        {"inputs": {"rgb": 3}},
        {"inputs": {"rgb": (3, 0, 8)}},
        {"inputs": {"rgb": (3, 8.0, 8)}},
        {"frames": 0},
        {"frames": 1.5},
    ],
)
def test_a_system_is_checked_where_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="system") as error:
        make(**wrong)
    assert "\n" not in str(error.value)


def test_find_suggests_what_is_near() -> None:
    registry = Registry([make(id="epic/s3-t4"), make(id="epic/s3-t3"), make(id="san19")])
    assert registry.find("san19").id == "san19"
    with pytest.raises(UsageError, match=r"'EPIC/s3t4': did you mean epic/s3-t4, epic/s3-t3\?"):
        registry.find("EPIC/s3t4")
    with pytest.raises(UsageError, match="'slowfast': see `foveabench list`"):
        registry.find("slowfast")


def test_an_id_is_given_once() -> None:
    registry = Registry([make()])
    with pytest.raises(UsageError, match="'ucf101/x' already"):
        registry.add(make())


def by_path(folder: Path) -> str:
    return f"{folder / 'my_systems.py'}:my_net"


def by_relative_path(folder: Path) -> str:
    return "my_systems.py:my_net"


def by_module(folder: Path) -> str:
    return "my_systems:my_net"


@pytest.mark.parametrize("where", [by_path, by_relative_path, by_module])
def test_an_adapter_finds_its_neighbours(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: Callable[[Path], str]
) -> None:
    monkeypatch.chdir(folder.parent if where is by_path else folder)
    registry = Registry()
    registry.add_adapter(where(folder))
    (system,) = registry
    assert (system.id, system.frames, system.published["top1"]) == ("ucf101/my-net", 8, 80.5)
    assert system.build()(torch.ones(1, 3, 8, 8)).shape == (1, 192)


def test_an_adapter_may_be_loaded_again(folder: Path) -> None:
    for registry in (Registry(), Registry()):
        registry.add_adapter(by_path(folder))
        assert registry.find("ucf101/my-net")


def test_a_file_that_is_named_like_a_library_hides_it_from_nobody(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("x = 1")
    assert load_object(f"{tmp_path / 'torch.py'}:x") == 1
    assert sys.modules["torch"] is torch
    assert sys.path.index(str(tmp_path)) == len(sys.path) - 1


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("missing.py:x", "FileNotFoundError: no such file: missing.py"),
        ("no_such_module:x", "No module named 'no_such_module'"),
        ("my_systems.py", "neither module:name nor path/to/file.py:name"),
        (":my_net", "neither module:name nor path/to/file.py:name"),
        ("my_systems.py:nothing", "my_systems.py has no 'nothing'"),
        ("my_systems.py:not_a_system", "is not a system: decorate the function that builds it with @bench.system"),
        ("raises.py:x", "RuntimeError: first line"),
        ("exits.py:x", "SystemExit: 3"),
        ("syntax.py:x", "SyntaxError"),
        ("undecorated.py:x", "TypeError"),
    ],
)
def test_what_is_wrong_with_an_adapter(folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, message: str) -> None:
    (folder / "raises.py").write_text("raise RuntimeError('first line\\nsecond line')")
    (folder / "exits.py").write_text("import sys; sys.exit(3)")
    (folder / "syntax.py").write_text("def x(:")
    (folder / "undecorated.py").write_text("import bench\n@bench.system\ndef x(): pass")
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError) as error:
        Registry().add_adapter(where)
    assert where in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_installed_packages_offer_systems_and_a_broken_one_harms_nobody(folder: Path) -> None:
    information = folder / "my_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[foveabench.systems]\ngone = no_such_module:x\nwrong = my_systems:not_a_system\nmine = my_systems:my_net\n"
    )
    sys.path.append(str(folder))
    registry = Registry()
    registry.add_entry_points()
    assert [system.id for system in registry] == ["ucf101/my-net"]
    gone, wrong = registry.problems
    assert "gone = no_such_module:x is left out: ModuleNotFoundError" in gone
    assert "wrong = my_systems:not_a_system is left out: adapter" in wrong
