"""The errors that read as a line and not as a traceback: a user's mistake, a run that failed, one that was stopped, a
result that is not good enough."""

import difflib
import itertools
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal or a reader of logs obeys or cannot show; a tab and a line's end are none of them."""
_INPUT = re.compile(r'input "(.*)"')
"""What an error calls an input of a request."""
_TRACEBACK = "Traceback (most recent call last):"
SHOWN = 20_000
"""Most characters of a value that are shown."""


def shown(text: str) -> str:
    """A text of strangers for a terminal or a log: control characters as their escapes, and long ones cut."""
    return escaped(cut(text))


def escaped(text: str) -> str:
    """A text with control characters as their escapes."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def shown_on_a_line(text: str) -> str:
    """The same on one line."""
    return shown(text).replace("\n", "\\n")


def first_line(error: BaseException, most: int = SHOWN) -> str:
    """The first line of an exception's message, cut after ``most`` characters, or its type where it has none. Of a
    message that quotes a traceback the last line, which names the error."""
    text = str(error).strip()
    lines = text.rpartition(_TRACEBACK)[2].splitlines()[-1:] if _TRACEBACK in text else text.splitlines()
    return (lines or [type(error).__name__])[0].strip()[:most]


def cut(text: str) -> str:
    """A text, or its beginning and how long it is."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


class InputError(ValueError):
    """Something the user gave cannot be used. Reads as: where, what is wrong, what was found, what to try, each
    as `shown` has it, since it may hold what a file of strangers does.

    Args:
        where: the field, flag or file at fault, e.g. ``"field task.label"``.
        problem: what is wrong with the value that was given, one sentence.
        found: what is there instead (names, counts, a value); left out when empty.
        fix: what the user can type or change; left out when empty.

    Attributes:
        input: the input of a request at fault, where it is known; else empty.
    """

    def __init__(self, where: str, problem: str, *, found: str = "", fix: str = ""):
        self.where, self.problem, self.found, self.fix = where, problem, found, fix
        self.input = named[1] if (named := _INPUT.fullmatch(where)) else ""
        lines = [f"{shown_on_a_line(where)}: {shown(problem)}"]
        if found:
            lines.append(f"  found: {shown(found)}")
        if fix:
            lines.append(f"  try:   {shown(fix)}")
        super().__init__("\n".join(lines))

    def __reduce__(self):  # so that a data worker's error reaches the main process whole
        return _rebuild, (self.where, self.problem, self.found, self.fix)


class MissingSplit(InputError):
    """Data have no split of a name, or no record in it."""


class RunError(RuntimeError):
    """A run that cannot go on, through no fault of its input: what happened, and what to do."""


class StorageError(RunError, OSError):
    """A disk that cannot be written to: it is full, over its quota or failing. What is lost, what remains, what to do.

    It says nothing of the work itself, which goes on once there is room.
    """


class Missed(RuntimeError):
    """What was to be reached was not: a goal, or the most that a metric may lose. The work itself is done and saved."""


class Interrupted(RuntimeError):
    """A run that was asked to stop, and can go on.

    Args:
        folder: the run folder.
        step: where it stopped; None where nothing was being trained.
        saved: step of the checkpoint that it goes on from; None where there is none yet.
        again: the command that goes on; by default that of a training.
        of: what the step is one of, where the folder holds several trainings.
    """

    def __init__(self, folder: Path, step: int | None, saved: int | None, *, again: str = "", of: str = ""):
        self.folder, self.step, self.saved, self.of = folder, step, saved, of
        lost = "" if saved == step else f", goes on from step {saved or 0}"
        at = "" if step is None else f" at step {step}{of and f' of {of}'}{lost}"
        super().__init__(f"interrupted{at}; go on with: {again or f'suite train --resume {folder}'}")

    def within(self, folder: Path, again: str, of: str = "") -> "Interrupted":
        """The same, as what it was a part of tells it: the work in ``folder``, which ``again`` goes on with."""
        return Interrupted(folder, self.step, self.saved, again=again, of=of or self.of)


def _rebuild(where: str, problem: str, found: str, fix: str) -> InputError:
    return InputError(where, problem, found=found, fix=fix)


def closest(name: str, known: Iterable[str]) -> str:
    """The known name most like ``name``, or ``""`` where none is near enough to be a typo of it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), "")


def beside(path: str | Path, holding: str) -> str:
    """The folder beside ``path`` that holds such a file and whose name is most like that of ``path``, or ``""``."""
    path = Path(path)
    try:
        names = [folder.name for folder in path.parent.iterdir() if (folder / holding).is_file()]
    except OSError:
        return ""
    near = closest(path.name, names)
    return str(path.parent / near) if near else ""


def unused(path: str | Path) -> str:
    """A path beside ``path`` that nothing has taken, quoted for a shell: what to try where something has taken it."""
    path = Path(path)
    candidates = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return shlex.quote(str(next(candidate for candidate in candidates if not candidate.exists())))
