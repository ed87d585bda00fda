"""Signature of a codec: what a request gives, what an answer holds, and files as values of answers."""

import base64
import re
from dataclasses import dataclass
from typing import Any

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Input:
    """One thing that a request gives, for forms, schemas and checks before anything is encoded."""

    name: str
    """The column, or key of a JSON object."""
    kind: str
    """Name of a kind of `suite.contracts.kinds.KINDS`: text, image, audio, number, category, list, or a plug-in's."""
    description: str = ""
    """What it is, for a person to read."""
    required: bool = True
    """Whether a request must give it; else it may be absent or null."""
    option: bool = False
    """Whether it says how to answer, rather than being a part of the record: a table of records may lack its column."""
    example: Any = None
    """A value in JSON that can be asked; None for what JSON does not hold."""
    limit: float = 0
    """Most of the kind's unit that a request should pass: characters of a text, seconds of a recording, pixels of an
    image, items of a list. 0: none."""
    choices: tuple[str, ...] = ()
    """Values seen in training, the frequent ones first, at most 100 of them; others may be given all the same."""
    low: float | None = None
    """Least value of a number."""
    high: float | None = None
    """Greatest value of a number."""
    whole: bool = False
    """Whether a number must be a whole one."""
    default: Any = None
    """The value in JSON of a request that gives none; None: there is no such value."""
    absent: str = "not known"
    """What a form says in place of a value that is not given, where there is no default."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One value of an answer."""

    name: str
    """Key of the answer."""
    kind: str
    """Name of a kind of `suite.contracts.kinds.KINDS`: class, classes, number, text, spans, segments, boxes, mask,
    ranking, vector, image, audio, heatmap, or a plug-in's."""
    description: str = ""
    """What it is, for a person to read."""
    choices: tuple[str, ...] = ()
    """Names of the classes; empty where there are too many to list."""
    of: str = ""
    """The output that this one is about, such as the label of a probability: both are shown as one."""
    after: str = ""
    """The input that this text goes on with."""
    empty: str = "Nothing."
    """What is shown in place of an empty text."""
    low: float | None = None
    """Least value of a number."""
    high: float | None = None
    """Greatest value of a number."""
    whole: bool = False
    """Whether a number is a whole one."""
    size: int = 0
    """Numbers of a vector; 0: not known."""
    media_types: tuple[str, ...] = ()
    """Media types that a file may have; empty: those of the kind."""

    @property
    def share(self) -> bool:
        """Whether a number is a probability or another share of one."""
        return self.low == 0 and self.high == 1


@dataclass(frozen=True)
class File:
    """A value of an answer that is a file: the bytes of an image, of a recording.

    Attributes:
        media_type: such as ``"image/png"``.
        data: the content.
    """

    media_type: str
    data: bytes

    def __post_init__(self) -> None:
        if not _MEDIA_TYPE.fullmatch(self.media_type):
            raise ValueError(f"{self.media_type!r:.100} is not a media type in small letters, such as image/png")

    def to_json(self) -> dict[str, str]:
        """``{"media_type", "data"}``, the content in base64."""
        return {"media_type": self.media_type, "data": base64.b64encode(self.data).decode("ascii")}

    def summary(self) -> dict[str, Any]:
        """``{"media_type", "bytes"}``, where the content itself has no place."""
        return {"media_type": self.media_type, "bytes": len(self.data)}


def file_to_json(value: Any) -> dict[str, str]:
    """``default`` of `json.dumps` for answers: files as ``{"media_type", "data"}``."""
    if isinstance(value, File):
        return value.to_json()
    raise TypeError(f"an answer holds a {type(value).__name__}, which JSON does not have")
