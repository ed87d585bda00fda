"""Reads a page as a strict browser would: tags closed in order, nothing from outside, everything said in words too."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br"}
ALLOWED = {
    "html",
    "head",
    "title",
    "style",
    "body",
    "header",
    "main",
    "section",
    "nav",
    "h1",
    "h2",
    "h3",
    "h4",
    "p",
    "a",
    "dl",
    "dt",
    "dd",
    "div",
    "span",
    "ol",
    "ul",
    "li",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "figure",
    "figcaption",
    "blockquote",
    "details",
    "summary",
    "pre",
    "code",
    "del",
    "ins",
    "audio",
    "strong",
    "svg",
    "g",
    "path",
    "circle",
    "text",
    *VOID,
}


@dataclass
class Table:
    """A table's caption and rows of cells, its head first."""

    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)

    def column(self, name: str) -> dict[str, str]:
        """First cell of each row -> its cell under ``name``."""
        place = self.rows[0].index(name)
        return {row[0]: row[place] for row in self.rows[1:]}


class Page(HTMLParser):
    """What a page holds; an AssertionError where it is not as a page of ours must be."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.tables: list[Table] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.alts: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.metas: list[dict[str, str]] = []
        self.style = ""
        self.feed(html)
        assert not self.open, self.open
        self._check()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert tag in ALLOWED, tag
        assert not [name for name in found if name.startswith("on") or name == "style"], (tag, found)
        assert len(found) == len(attributes), (tag, attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []
        self.alts += [found["alt"]] if tag == "img" else [found["aria-label"]] if tag == "svg" else []
        if tag == "meta":
            self.metas.append(found)
        if tag == "table":
            self.tables.append(Table())
        if tag == "tr":
            self.tables[-1].rows.append([])
        if tag in ("td", "th"):
            self.tables[-1].rows[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append((tag, ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> in {self.open}"

    def handle_data(self, data):
        if "style" in self.open:
            self.style += data
            return
        self.text += data
        for inside in reversed(self.open):
            if inside in ("td", "th"):
                self.tables[-1].rows[-1][-1] += data
                break
            if inside == "caption":
                self.tables[-1].caption += data
                break
            if inside in ("h1", "h2", "h3"):
                self.headings[-1] = (inside, self.headings[-1][1] + data)
                break

    def _check(self):
        policy = next(meta["content"] for meta in self.metas if meta.get("http-equiv") == "Content-Security-Policy")
        digest = base64.b64encode(hashlib.sha256(self.style.encode()).digest()).decode()
        assert policy.startswith("default-src 'none'; ") and f"style-src 'sha256-{digest}'" in policy
        assert "script-src" not in policy and "unsafe" not in policy
        assert all(source.startswith("data:") for source in self.sources)
        assert len(set(self.ids)) == len(self.ids) and {link.removeprefix("#") for link in self.links} <= set(self.ids)
        assert all(link.startswith("#") for link in self.links)
        assert all(alt.strip() for alt in self.alts)
        assert "url(" not in self.style and "@import" not in self.style
        levels = [int(tag[1]) for tag, _ in self.headings]
        assert levels[0] == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))

    @property
    def titles(self) -> list[str]:
        """Texts of all headings."""
        return [text for _, text in self.headings]

    @property
    def words(self) -> str:
        """All text with single blanks."""
        return " ".join(self.text.split())

    def table(self, caption: str) -> Table:
        """The first table whose caption matches."""
        return next(table for table in self.tables if re.search(caption, table.caption))

    def matrix(self) -> list[list[int]]:
        """The confusion matrix."""
        table = next(
            table
            for table in self.tables
            if table.rows[0][0] == "" and table.rows[0][1:] == [row[0] for row in table.rows[1:]]
        )
        return [[int(cell.replace(",", "") or 0) for cell in row[1:]] for row in table.rows[1:]]


def read(path: Path) -> Page:
    """The page in a file."""
    return Page(path.read_text(encoding="utf-8"))
