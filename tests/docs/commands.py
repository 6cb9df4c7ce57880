"""Commands of the documentation: running them, and checking those that cannot be run here."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from pages import ROOT, Block

from bench.cli import app, main
from bench.measuring.cases import chosen_systems
from bench.systems.builtin import registry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

QUICK = {
    "measure": ["--budget", "0.3", "--warmup", "0.1", "--energy", "0", "--time-limit", "3000", "--threads", "1"],
    "compare": ["--seconds", "1", "--threads", "1"],
    "pytest": ["-p", "no:cacheprovider", "--benchmark-max-time=0.001"],
}
"""What is added here to commands that take their time, where they do not say themselves how long they may."""

NOT_OURS = {"cd", "git", "nvidia-smi", "scp", "sphinx-build", "sudo", "tox"}
"""Programs that pages may name without our looking at their options."""


def run(command: str, capture: Callable[[], str]) -> tuple[int, str]:
    """Run a command of foveabench, or of pytest, in this process, where we are.

    Args:
        command: a line.
        capture: what was printed on standard output, and an error that foveabench ended with, since it was last called.

    Returns:
        Its exit status, and what it printed.
    """
    program, *arguments = shlex.split(command, comments=True)
    quick = QUICK.get(arguments[0] if program == "foveabench" else program, [])
    arguments += [] if {*quick} & {*arguments} else quick
    capture()
    if program == "foveabench":
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        status = int(exit_.value.code or 0)
    elif program == "pytest":
        status = int(pytest.main(arguments))
        _forget(Path.cwd())
    else:
        raise AssertionError(f"nobody knows how to run {program!r}: teach tests/docs/commands.py, or mark the block")
    return status, capture()


def _forget(folder: Path) -> None:
    """Forget modules of a folder, as a new process would, for they may have been changed when they are used again."""
    for name, module in [*sys.modules.items()]:
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]


def matches(wanted: str, got: str, figures_vary: bool) -> bool:
    """Whether an output is the one that is shown, but for white space, and anything where that has three dots."""
    if figures_vary:
        wanted, got = (re.sub(r"\d[\d.,]*", "0", text) for text in (wanted, got))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(wanted.strip(), got.strip(), flags)


def check(command: str, block: Block, files: set[str], done: set[str]) -> None:
    """Check a command that cannot be run here, as far as it can be.

    Args:
        command: a line of it.
        block: where it stands.
        files: names of files that the page has its reader write.
        done: commands that were run on the page.
    """
    for part in command.split("&&"):
        words = shlex.split(part, comments=True)
        while "=" in words[0]:
            words = words[1:]
        if words[0] == "taskset":
            words = words[words.index("foveabench") :]
        if words[0] == "foveabench" or words[0] == "torchrun":
            _check_call(words[words.index("bench") + 1 :] if words[0] == "torchrun" else words[1:], files)
        elif words[0] == "pip":
            _check_extras(part)
        elif words[0] == "python":
            _check_script(words[1:])
        elif words[0] == "pytest":
            assert part in done, f"{block.place}: {part} is run nowhere on the page"
        else:
            assert words[0] in NOT_OURS, f"{block.place}: nobody knows how to check {part!r}"


def _check_call(words: list[str], files: set[str]) -> None:
    """Options that there are, with values that they take; systems and configurations that there are."""
    name, *rest = words
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, rest) as context:
        given = context.params
    systems = [given.get("system"), *(given.get("new") or [])]
    systems += given.get("names") or [] if name != "figures" else []
    if name == "compare":
        systems += [each for each in (given["a"], given["b"]) if re.fullmatch(r"\w+/[\w-]+", each)]
    if not given.get("adapter"):
        chosen_systems(registry(), [each for each in systems if each])
    if name == "train" and given["config"] not in files:
        from adaptive_models.training.config import read_config

        read_config(given["config"])


def _check_extras(command: str) -> None:
    """Extras that the project has."""
    for extras in re.findall(r"(?:foveabench|\.)\[([\w,]+)\]", command):
        assert {*extras.split(",")} <= {*PROJECT["optional-dependencies"]}, command


def _check_script(words: list[str]) -> None:
    """A script of the repository, with options that it has."""
    text = (ROOT / words[0]).read_text()
    for option in (word.lstrip("-") for word in words[1:] if word.startswith("-")):
        assert re.search(rf'"--{option}"|\b{option.replace("-", "_")}: ', text), f"{words[0]} has no --{option}"
