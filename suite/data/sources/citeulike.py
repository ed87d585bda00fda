"""citeulike-a: who has which scientific articles in the library, and the articles' tags (`Wang et al., 2013
<https://www.ijcai.org/Proceedings/13/Papers/400.pdf>`_)."""

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from suite.contracts.data import Data, Source
from suite.data.reading import DAMAGED, existing, lines
from suite.data.sources.memory import LeftOut, Memory, check_split, not_empty
from suite.errors import InputError, MissingSplit


@dataclass(frozen=True, kw_only=True)
class CiteULike(Data):
    """The published files, in a folder or an archive. A line of ``users.dat`` is a user, one of ``item-tag.dat`` an
    article; each begins with how many numbers follow. Lines of which that is not so are left out and counted."""

    path: str
    """Folder, or .tar.gz archive, of the files."""
    part: Literal["events", "tags"] = "events"
    """events: columns ``user`` and ``item``, a record a user's article. tags: columns ``item`` and ``tags``, a record
    an article with the names of its tags. Users and articles are called by their place, from 0 on."""

    def open(self, split: str) -> Source:
        """All records, as the training split.

        Raises:
            InputError: no such path or split, or a file is missing or damaged.
        """
        check_split(split, self.path)
        if split != "train":
            raise MissingSplit(self.path, f"there is no split '{split}'", found="train")
        return not_empty(self._events() if self.part == "events" else self._tags(), split, self.path)

    def whole(self) -> Source | None:
        return self.open("train")

    def _events(self) -> Memory:
        left = LeftOut()
        rows = self._numbers("users.dat", left)
        users = np.repeat(np.array(list(rows), np.int64), [len(row) for row in rows.values()])
        items = np.array([item for row in rows.values() for item in row], np.str_)
        return Memory({"user": users.astype(np.str_), "item": items}, dropped=left.counts, dropped_names=left.names)

    def _tags(self) -> Memory:
        left, names = LeftOut(), [line.strip() for line in lines(self._text("tags.dat"))]
        rows = self._numbers("item-tag.dat", left)
        named = [[names[int(tag)] for tag in row if int(tag) < len(names)] for row in rows.values()]
        if unnamed := sum(map(len, rows.values())) - sum(map(len, named)):
            left.add("tags that tags.dat does not name", count=unnamed)
        columns = {"item": np.array(list(rows)).astype(np.str_), "tags": named}
        return Memory(columns, dropped=left.counts, dropped_names=left.names)

    def _numbers(self, file: str, left: LeftOut) -> dict[int, list[str]]:
        """The numbers of each line by its place."""
        rows = {}
        for place, line in enumerate(lines(self._text(file))):
            count, *numbers = line.split() or [""]
            if count.isdecimal() and int(count) == len(numbers) and all(map(str.isdecimal, numbers)):
                rows[place] = numbers
            else:
                left.add("lines of another form", f"{file} line {place + 1}")
        return rows

    def _text(self, file: str) -> str:
        path = existing(self.path)
        try:
            if path.is_dir():
                return (path / file).read_text(encoding="utf-8")
            with tarfile.open(path) as archive:
                member = next(one for one in archive if Path(one.name).name == file and one.isfile())
                content = archive.extractfile(member)
                assert content is not None
                return content.read().decode("utf-8")
        except (StopIteration, FileNotFoundError):
            raise InputError(self.path, f"has no {file}", fix="the files of citeulike-a") from None
        except (*DAMAGED, tarfile.TarError, UnicodeDecodeError) as error:
            raise InputError(self.path, f"{file} cannot be read", found=str(error)[:200]) from None
