"""Markdown pages as tests read them: headings, links, and the commands of fenced blocks.

The first word of a block's info string is its language; a second one says how its commands are tested: ``slow`` (with
-m slow alone) or ``parsed`` (never run: they need a network, other machines or an empty environment).
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

README, INDEX = ROOT / "README.md", ROOT / "docs" / "README.md"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, how it is tested, its text, and the line it begins at."""

    page: Path
    language: str
    tested: str
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        """Its lines, continued ones joined, comments and blank ones left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if shlex.split(line, comments=True)]


def blocks(page: Path) -> list[Block]:
    """Fenced blocks in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        language, _, tested = match[1].strip().partition(" ")
        found.append(Block(page, language, tested, match[2], text.count("\n", 0, match.start()) + 1))
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> list[str]:
    """Texts of the headings."""
    return re.findall(r"^#+ +(.+?) *$", prose(page), flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Fragments that lead to a heading, as GitHub makes them; equal ones are numbered."""
    found: set[str] = set()
    for heading in headings(page):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = next(n for n in range(1000) if (anchor if not n else f"{anchor}-{n}") not in found)
        found.add(anchor if not number else f"{anchor}-{number}")
    return found


def links(page: Path) -> list[str]:
    """Targets of links and images, in order."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def command_lines(page: Path) -> list[str]:
    """Lines of the shell that begin with ``suite``, redirections and variables in front left out."""
    lines = [line for block in blocks(page) if block.language in ("sh", "bash") for line in block.commands]
    bare = [re.sub(r"^([A-Z_]+=\S+ +)+", "", line) for line in lines]
    return [re.split(r" [|>] ", line)[0] for line in bare if line.startswith("suite ")]


def pages() -> list[Path]:
    """README and all pages below docs but decisions, in the order in which README and docs/README.md link them."""
    listed = [(INDEX.parent / link.partition("#")[0]).resolve() for link in links(INDEX) if "://" not in link]
    below = [path for path in dict.fromkeys(listed) if path.suffix == ".md" and path.is_relative_to(INDEX.parent)]
    return [README, *(path for path in below if path.parent.name != "decisions" and path.exists())]
