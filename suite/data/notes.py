"""Notes on data: what was left out of the splits and what was guessed on reading them, as lines for people."""

from collections.abc import Mapping, Sequence

from suite.contracts.data import Source


def listed(names: Sequence[str], count: int) -> str:
    """The first names of ``count`` records, and an ellipsis where there are more."""
    return ", ".join(printable(name) for name in names) + (", ..." if count > len(names) else "")


def printable(name: str) -> str:
    """A name on one line: what is not UTF-8, and control characters, as their escapes."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def told(counts: Mapping[str, int], names: Mapping[str, Sequence[str]]) -> list[str]:
    """How many were left out for which reason, with the first names, a line a reason."""
    return [
        f"{count:,} left out, {reason}{': ' if names.get(reason) else ''}{listed(names.get(reason, []), count)}"
        for reason, count in counts.items()
    ]


def notes(splits: Mapping[str, Source]) -> list[str]:
    """The notes on each split and what was left out of it, a line each.

    A line that holds for several splits alike, such as of a file that is read before it is split, is said once.
    """
    lines: dict[str, list[str]] = {}
    for split, source in splits.items():
        for line in (*source.notes, *told(source.dropped, source.dropped_names)):
            lines.setdefault(line, []).append(split)
    return [f"{', '.join(names)}: {line}" for line, names in lines.items()]
