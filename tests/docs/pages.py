"""Pages of Markdown as what is to be done: their fenced blocks, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

_FENCE = re.compile(r"^(?:<!-- (?P<mark>.+?) -->\n)?```(?P<kind>\S*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        place: page and line, for messages.
        kind: the word after the fence.
        text: what is in it.
        mark: the comment in the line before the fence, or nothing: `not run: <reason>` for what cannot be done here,
            `figures vary: <reason>` for an output whose numbers are of one machine, `output varies: <reason>` where its
            words are, too.
    """

    place: str
    kind: str
    text: str
    mark: str

    def reason(self, kind: str) -> str:
        """Why it is marked so; empty if it is not."""
        name, _, reason = self.mark.partition(": ")
        return reason.strip() if name == kind else ""

    @property
    def not_run(self) -> str:
        """Why it is not run; empty if it is."""
        return self.reason("not run")

    @property
    def file(self) -> str:
        """Name of the file that it is, which stands in its first line; empty if it is none."""
        found = re.match(r"# ([\w./-]+\.(?:py|toml|yml))\n", self.text)
        return found[1] if found else ""


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        place = f"{page.relative_to(ROOT)}:{text[: match.start('kind')].count(chr(10)) + 1}"
        found.append(Block(place, match["kind"], match["text"], match["mark"] or ""))
    return found


def fences(page: Path) -> int:
    """How many lines of a page open or close a block, wherever they stand."""
    return len(re.findall(r"^\s*(?:>\s*)*(?:```|~~~)", page.read_text(), re.MULTILINE))


def calls(block: Block) -> list[tuple[str, str]]:
    """The commands of a block with the output that is shown for each; of `bash`, none is shown."""
    if block.kind == "bash":
        joined = block.text.replace("\\\n", " ")
        return [(line, "") for line in map(str.strip, joined.splitlines()) if line and not line.startswith("#")]
    if block.kind == "console":
        first, *parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        assert not first, f"{block.place}: a console block begins with $ and a command"
        return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]
    return [(command, "") for command in re.findall(r"^\s*- run: (.+)$", block.text, re.MULTILINE)]
