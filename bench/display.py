"""What the command line shows people: tables, progress and numbers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

PIPE_WIDTH = 160


def console() -> Console:
    """Standard output; wide when it is not a terminal, so that what is piped is not folded."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def say(text: str, **words: object) -> None:
    """Print a line of rich markup; `words` are put into it as they are, whatever brackets they hold."""
    console().print(text.format(**{name: escape(str(word)) for name, word in words.items()}), soft_wrap=True)


def note(text: str) -> None:
    """Print a line to standard error, so that standard output can be piped."""
    print(text, file=sys.stderr)


def print_json(data: Any) -> None:
    """Print data as JSON."""
    print(json.dumps(data, indent=1))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table whose numeric columns are aligned to the right."""
    rows = [[_text(cell) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        numeric = all(_is_number(row[position]) for row in rows if row[position])
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, int):
        return f"{cell:,}"
    return str(cell)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True


def giga(flops: float) -> str:
    """Operations in units of 1e9, with the decimals that small numbers need."""
    return f"{flops / 1e9:.3f}" if flops >= 1e6 else f"{flops / 1e9:.3g}"


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A progress bar on standard error, if that is a terminal; yields a function that names the next piece of work."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=total)
        started = False

        def advance(description: str) -> None:
            nonlocal started
            bar.update(task, description=description, advance=1 if started else 0)
            started = True

        yield advance
        bar.update(task, completed=total)


@contextmanager
def activity() -> Iterator[Callable[[str], None]]:
    """A spinner on standard error, if that is a terminal; yields a function that says what is being done."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as spinner:
        task = spinner.add_task("")
        yield lambda description: spinner.update(task, description=description)
