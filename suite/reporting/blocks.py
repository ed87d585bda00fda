"""Blocks of a page: plain data that the template draws. The template escapes every text."""

from dataclasses import dataclass
from typing import Literal

from suite.evaluation.alignment import Pair


@dataclass(frozen=True)
class Text:
    """A paragraph; ``lead`` is set large, ``note`` small, ``warning`` stands out."""

    text: str
    kind: Literal["body", "lead", "note", "warning"] = "body"


@dataclass(frozen=True)
class Verdict:
    """A word that decides, and what it is about; ``good`` None where nothing can be decided."""

    word: str
    text: str
    good: bool | None = None


@dataclass(frozen=True)
class Table:
    """Rows under a head. ``words``: columns of words, set flush left; the others hold numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    words: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Plot:
    """A drawing: ``svg`` is trusted, as `suite.reporting.svg` made it; ``numbers`` says the same for those who hear."""

    title: str
    svg: str
    numbers: Table | None = None


@dataclass(frozen=True)
class Figure:
    """Plots side by side, or below each other where there is no room, with what they show."""

    plots: tuple[Plot, ...]
    caption: str


@dataclass(frozen=True)
class Cell:
    """A cell of a matrix: ``shade`` 0 to 10, ``right`` on the diagonal."""

    count: int
    shade: int
    right: bool


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: actual (rows) and predicted classes (columns)."""

    names: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str


@dataclass(frozen=True)
class Picture:
    """An image as a data URI: a ``photo``, a ``small`` one that is drawn larger with sharp pixels, a ``framed`` one
    with boxes on it, or a ``sound``."""

    uri: str
    alt: str
    kind: Literal["photo", "small", "framed", "sound"] = "photo"


@dataclass(frozen=True)
class Audio:
    """A recording as a data URI, with a player; ``alt`` says what it is."""

    uri: str
    alt: str


@dataclass(frozen=True)
class Items:
    """Things in their order, each with a word about it, which may be empty."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Marked:
    """A text in parts (text, wanted, answered): labels of what should be marked there and what was, empty for none."""

    parts: tuple[tuple[str, str, str], ...]


Shown = str | Picture | Audio | Items | Marked
"""Forms of a value on a page."""


@dataclass(frozen=True)
class Card:
    """One record: a text, in which spans may be marked, a picture or a recording (a picture and a data URI to listen
    to), and what was said of it.

    ``fields`` are more that is known of it.
    ``pairs`` lays wanted and answered beside each other word by word.
    """

    wanted: str = ""
    answered: str = ""
    note: str = ""
    text: str | Marked = ""
    picture: Picture | None = None
    sound: str = ""
    fields: tuple[tuple[str, Shown], ...] = ()
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Cards:
    """Records side by side."""

    cards: tuple[Card, ...]
    caption: str


@dataclass(frozen=True)
class Code:
    """Lines as they are typed or stored."""

    text: str


@dataclass(frozen=True)
class Terms:
    """Words and what they mean."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: "tuple[Block, ...]"


Block = Text | Verdict | Table | Figure | Matrix | Cards | Code | Terms | Folded


@dataclass(frozen=True)
class Part:
    """Blocks under a smaller heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    """A chapter of the page; ``name`` is its address on the page."""

    name: str
    title: str
    blocks: "tuple[Block | Part, ...]"


@dataclass(frozen=True)
class Page:
    """A whole page: title, what stands below it, what it says in short, and its sections."""

    title: str
    kind: str
    about: tuple[tuple[str, str], ...]
    summary: tuple[Block, ...]
    sections: tuple[Section, ...]
