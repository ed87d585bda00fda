"""suite list: the recipes that come with the suite."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from suite.cli.flags import Flags, Verb, word

Recipe = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class List(Flags):
    """Lists recipes with expected metric, time and data; those for your own data come first."""

    verb = "list"
    examples = ("suite list", "suite list vision", "suite list text.sst2_encoder")

    what: str = word("DOMAIN|EXPERIMENT", example="text", default="")
    """A domain, such as text or vision; or one recipe, of which all is printed."""


def list_(given: List) -> None:
    from suite.experiment import recipes

    if given.what in recipes.names():
        (entry,) = (entry for entry in recipes.describe() if entry["name"] == given.what)
        print("\n".join(_whole(entry)))
        return
    width = min(shutil.get_terminal_size((80, 24)).columns, 160)
    print("\n".join(table(recipes.describe(given.what), width)))


def is_own(entry: Recipe) -> bool:
    """Whether the recipe is for the user's own data."""
    return entry.get("expected", "").startswith("depends on")


def table(entries: list[dict[str, str]], width: int) -> Iterator[str]:
    """Lines of at most ``width`` columns: recipes for own data, then those of published data."""
    own = [entry for entry in entries if is_own(entry)]
    published = [entry for entry in entries if not is_own(entry)]
    name = max(len(entry["name"]) for entry in entries) + 2
    if own:
        yield "For your own data"
        for entry in own:
            yield from _own(entry, name, width)
    if own and published:
        yield ""
    if published:
        yield "For published data"
        yield from _published(published, name, width)
    yield ""
    yield from textwrap.wrap("suite list EXPERIMENT prints all of a recipe; suite train EXPERIMENT trains it.", width)


def _own(entry: Recipe, name: int, width: int) -> Iterator[str]:
    title = entry["title"].partition(":")[0].rstrip(".").removeprefix("Your own ")
    what = f"{title}: {entry.get('data', '')}"
    yield from _wrapped(f"{entry['name']:{name}}", what, name, width)


def _published(entries: Sequence[Recipe], name: int, width: int) -> Iterator[str]:
    metric = max(len(_metric(entry)) for entry in entries) + 2
    time = max(len(_time(entry)) for entry in entries) + 2
    left = width - name - metric - time
    beside = left >= 36  # else the title takes a line of its own
    yield f"{'':{name}}{'expected':{metric}}{'time':{time}}{'task and model' if beside else ''}".rstrip()
    for entry in entries:
        start = f"{entry['name']:{name}}{_metric(entry):{metric}}{_time(entry):{time}}"
        title = entry["title"].rstrip(".")
        yield f"{start}{_cut(title, left)}" if beside else start.rstrip()
        if not beside:
            yield f"    {_cut(title, width - 4)}"
        yield f"    data: {_cut(entry.get('data', ''), width - 10)}"


def _metric(entry: Recipe) -> str:
    """The expected metric alone: ``test accuracy 98.0 %``."""
    text = entry.get("expected", "")
    match = re.match(r"(test|validation) (\w+).*?([\d.]+\d(?: %)?)", text)
    return " ".join(match.groups()) if match else _cut(text.partition(";")[0], 24)


def _time(entry: Recipe) -> str:
    """The time alone: ``22 min``."""
    text = entry.get("time", "")
    match = re.match(r"(half a|under a|an?|[\d.]+(?:(?: to | and )[\d.]+)?) (second|minute|hour)", text)
    if not match:
        return _cut(re.split(r"[;,]| on ", text)[0], 16)
    words = {"half a": "0.5", "under a": "< 1", "a": "1", "an": "1"}
    number = words.get(match[1]) or re.sub(" (to|and) ", "-", match[1])
    return f"{number} {dict(second='s', minute='min', hour='h')[match[2]]}"


def _whole(entry: Recipe) -> Iterator[str]:
    yield entry["name"]
    yield from textwrap.wrap(entry["title"], 100, initial_indent="    ", subsequent_indent="    ")
    for key, value in entry.items():
        if key not in ("name", "title"):
            yield from _wrapped(f"    {key + ':':10}", value, 14, 104)


def _wrapped(first: str, text: str, indent: int, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * indent) or [first.rstrip()]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 3, 0)].rstrip() + "..."


VERB = Verb(List, list_)
