"""The report as a parser sees it: tables by id, and everything that a browser might load."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any


@dataclass
class Cell:
    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class ParsedTable:
    rows: list[list[Cell]] = field(default_factory=list)

    @property
    def headings(self) -> list[Cell]:
        return next(row for row in self.rows if all(cell.attributes.get("scope") == "col" for cell in row))

    @property
    def groups(self) -> list[str]:
        """The group of each column; all empty without any."""
        first = self.rows[0]
        if first == self.headings:
            return [""] * len(first)
        return [cell.text for cell in first for _ in range(int(cell.attributes.get("colspan", 1)))]

    @property
    def body(self) -> list[list[Cell]]:
        return self.rows[self.rows.index(self.headings) + 1 :]

    def column(self, group: str, words: str) -> list[str]:
        """Texts of the column under a group and words, which begin so (what only screen readers say follows)."""
        (place,) = (
            place
            for place, (above, cell) in enumerate(zip(self.groups, self.headings, strict=True))
            if above == group and cell.text.partition(" (")[0] == words
        )
        return [row[place].text for row in self.body]


class Parsed(HTMLParser):
    """Reads a page when it is made."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, ParsedTable] = {}
        self.loads: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._stack: list[str] = []
        self._id = ""
        self._cell: Cell | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in ("meta", "link", "br", "img", "input"):
            self._stack.append(tag)
        self.loads += [attributes[name] for name in ("src", "srcset", "data", "poster", "action") if name in attributes]
        if tag == "link":
            self.loads.append(attributes["href"])
        if "data-table" in attributes:
            self._id = attributes["id"]
        elif tag == "table":
            self.tables[self._id] = ParsedTable()
        elif tag == "tr":
            self.tables[self._id].rows.append([])
        elif tag in ("td", "th"):
            self._cell = Cell(tag, attributes)
            self.tables[self._id].rows[-1].append(self._cell)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = None
        while self._stack and self._stack.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.text += data
        if self._stack:
            self.texts.setdefault(self._stack[-1], []).append(data)

    @property
    def data(self) -> Any:
        """What the scripts of the page are given."""
        place = [attributes.get("type") for tag, attributes in self.tags if tag == "script"].index("application/json")
        return json.loads(self.texts["script"][place])
