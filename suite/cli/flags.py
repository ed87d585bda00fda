"""Flags of a verb: declared once as fields of a dataclass, from which parsing, --help and the command reference come.

A verb's class derives from `Flags`. Each field is a positional word (`word`), a flag (`flag`; of type bool a switch)
or the command behind ``--`` (`command`); the text under the field is its meaning. Nothing heavy is imported here: the
fields of experiments, ``--section.field VALUE``, are left to `suite.cli.fields`.
"""

import ast
import dataclasses
import shlex
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from suite.errors import InputError, closest

HELP = ("-h", "--help")
T = TypeVar("T", bound="Flags")


def flag(
    default: Any = "", *, example: str = "", value: str = "", otherwise: str = "", least: float | None = None
) -> Any:
    """A field that is a flag. Type bool: a switch without a value; a tuple: several values.

    Args:
        default: its value where the flag is not given.
        example: a value to show; by default the default itself.
        value: what the value is called in --help, such as ``DIR``; by default after its type.
        otherwise: what holds without the flag, where the default doesn't say so.
        least: the least number that is allowed.
    """
    about = {"example": example, "value": value, "otherwise": otherwise, "least": least}
    return dataclasses.field(default=default, metadata={"kind": "flag", **about})


def word(name: str, *, example: str, fix: str = "", default: Any = MISSING) -> Any:
    """A field that is a positional word; a tuple takes all that are left.

    Args:
        name: what it is called in --help, such as ``RUN``.
        example: a value to show.
        fix: the command that tells which values there are, for whoever gave none.
        default: makes it optional.
    """
    optional = default is not MISSING
    about = {"kind": "word", "value": name, "example": example, "fix": fix, "optional": optional}
    return dataclasses.field(default=default if optional else (), metadata=about)


def command(name: str, *, example: str) -> Any:
    """A field that takes all that stands behind ``--``."""
    return dataclasses.field(default=(), metadata={"kind": "command", "value": name, "example": example})


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What a verb was given. Each verb derives its own class, whose docstring says what the verb does."""

    verb: ClassVar[str] = ""
    """Its name, which may be two words."""
    takes_fields: ClassVar[bool] = False
    """Whether it takes fields of an experiment, --section.field VALUE."""
    examples: ClassVar[tuple[str, ...]] = ()
    """Complete commands for --help."""
    notes: ClassVar[str] = ""
    """A paragraph under the flags of --help."""

    fields: tuple[str, ...] = ()
    """Arguments that are fields of the experiment."""
    typed: tuple[str, ...] = ()
    """All arguments, as given."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line: what it takes, and the function that runs it."""

    flags: type[Flags]
    run: Callable[[Any], None]

    @property
    def name(self) -> str:
        return self.flags.verb

    @property
    def summary(self) -> str:
        return (self.flags.__doc__ or "").strip().splitlines()[0]

    def __call__(self, arguments: Sequence[str]) -> None:
        self.run(parse(self.flags, arguments))


@dataclass(frozen=True)
class Option:
    """One field of a verb's class, as parser and help see it."""

    field: str
    kind: Literal["flag", "word", "command"]
    type: Any
    default: Any
    value: str
    example: str
    otherwise: str
    least: float | None
    fix: str
    optional: bool
    meaning: str

    @property
    def name(self) -> str:
        """As typed: ``--run-dir`` of a flag, ``RUN`` of a word."""
        return f"--{self.field.strip('_').replace('_', '-')}" if self.kind == "flag" else self.value

    @property
    def many(self) -> bool:
        return typing.get_origin(self.type) is tuple

    @property
    def item(self) -> Any:
        """Type of one value."""
        return typing.get_args(self.type)[0] if self.many else self.type

    @property
    def switch(self) -> bool:
        return self.type is bool

    @property
    def choices(self) -> tuple[str, ...]:
        return tuple(filter(None, typing.get_args(self.item))) if typing.get_origin(self.item) is Literal else ()

    @property
    def sample(self) -> str:
        """The flag with a value, or the word, as someone would type it."""
        if self.kind != "flag":
            return self.example
        return self.name if self.switch else f"{self.name} {self.example or _typed(self.default)}".rstrip()

    @property
    def usage(self) -> str:
        """The flag with the name of its value."""
        return self.name if self.switch else f"{self.name} {self.value}"


def options(kind: type[Flags]) -> tuple[Option, ...]:
    """Words, flags and commands of a verb, its own before those that it shares with other verbs."""
    if kind not in _OPTIONS:
        _OPTIONS[kind] = _options(kind)
    return _OPTIONS[kind]


_OPTIONS: dict[type[Flags], tuple[Option, ...]] = {}


def _options(kind: type[Flags]) -> tuple[Option, ...]:
    meanings, hints = meanings_of(kind), typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in ("fields", "typed")}
    order = dict.fromkeys(name for base in kind.__mro__ for name in vars(base).get("__annotations__", {}))
    return tuple(_option(fields[name], _bare(hints[name]), meanings.get(name, "")) for name in order if name in fields)


def _option(field: "dataclasses.Field[Any]", kind: Any, meaning: str) -> Option:
    about = field.metadata
    default = field.default if field.default is not MISSING else ()
    option = Option(
        field.name,
        about.get("kind", "flag"),
        kind,
        default,
        about.get("value", ""),
        about.get("example", ""),
        about.get("otherwise", ""),
        about.get("least"),
        about.get("fix", ""),
        about.get("optional", True),
        meaning,
    )
    return option if option.value else dataclasses.replace(option, value=_value_name(option))


def _value_name(option: Option) -> str:
    single = "|".join(option.choices) or {int: "N", float: "X"}.get(option.item, "TEXT")
    return f"{single} ..." if option.many else single


def _bare(kind: Any) -> Any:
    """The type without None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(kind) if part is not type(None))
    return kind


def meanings_of(kind: type) -> dict[str, str]:
    """The text under each field, of the class and of those that it derives from."""
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        file = getattr(sys.modules[base.__module__], "__file__", None)
        if base is object or not file:
            continue
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        body = next((n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == base.__name__), [])
        for line, under in zip(body, body[1:], strict=False):
            if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
                continue
            if isinstance(under, ast.Expr) and isinstance(under.value, ast.Constant):
                meanings[line.target.id] = " ".join(str(under.value.value).split())
    return meanings


def _typed(value: Any) -> str:
    """A value as it is typed."""
    return shlex.join(map(str, value)) if isinstance(value, tuple) else shlex.quote(str(value)) if value != "" else ""


def parse(kind: type[T], arguments: Sequence[str]) -> T:
    """What a verb was given.

    Raises:
        InputError: a flag is unknown, is given twice, or has no value or one of another type; a word is missing or too
            much.
    """
    reader = _Reader(kind, list(arguments))
    return reader.read()


class _Reader:
    """Reads the arguments of one verb."""

    def __init__(self, kind: type[Flags], arguments: list[str]):
        self.kind, self.arguments = kind, arguments
        known = options(kind)
        self.flags = {option.name: option for option in known if option.kind == "flag"}
        self.words = [option for option in known if option.kind == "word"]
        self.behind = next((option for option in known if option.kind == "command"), None)
        self.values: dict[str, Any] = {}
        self.given: list[str] = []
        self.fields: list[str] = []

    def read(self) -> Any:
        items = self.arguments
        behind: tuple[str, ...] = ()
        if self.behind and "--" in items:
            at = items.index("--")
            items, behind = items[:at], tuple(items[at + 1 :])
        place = 0
        while place < len(items):
            place = self._take(items, place)
        values = {**self.values, **self._positional()}
        if self.behind:
            values[self.behind.field] = behind
        return self.kind(**values, fields=tuple(self.fields), typed=tuple(self.arguments))

    def _take(self, items: list[str], place: int) -> int:
        """Take the argument at ``place`` with its values; returns where the next one is."""
        item = items[place]
        name, has_value, value = item.partition("=")
        option = self.flags.get(name.replace("_", "-")) if item.startswith("--") else None
        if option is None:
            self._other(item, place)
            return place + 1
        if option.switch:
            if has_value:
                raise InputError(f"flag {name}", "takes no value.", found=value, fix=self.instead(place, [name]))
            self._set(option, True)
            return place + 1
        values = [value] if has_value else self._behind(option, items, place + 1)
        if not values or values == [""]:
            given = 1 if has_value else 1 + len(values)
            fix = self.instead(place, shlex.split(option.sample), given)
            raise InputError(f"flag {option.name}", "needs a value.", fix=fix)
        read = [self._value(option, one, place) for one in values]
        self._set(option, tuple(read) if option.many else read[0])
        return place + (1 if has_value else 1 + len(values))

    def _behind(self, option: Option, items: list[str], place: int) -> list[str]:
        """The values of a flag that stand behind it: one, or as many as are of its type."""
        if place >= len(items) or is_flag(items[place]):
            return []
        if not option.many or option.item is str:
            return [items[place]]
        end = place + 1
        while end < len(items) and not is_flag(items[end]) and _fits(option, items[end]):
            end += 1
        return items[place:end]

    def _other(self, item: str, place: int) -> None:
        """A word, or a field of the experiment."""
        if self.kind.takes_fields and (is_flag(item) or self.fields):
            self.fields.append(item)
        elif item.startswith("-") and item != "-":
            raise self._unknown(item, place)
        else:
            self.given.append(item)

    def _unknown(self, item: str, place: int) -> InputError:
        name = item.partition("=")[0]
        near = nearest(name, self.flags)
        fix = self.instead(place, [item.replace(name, near[0], 1)]) if near else f"suite {self.kind.verb} --help"
        known = ", ".join(near) if near else ", ".join(self.flags) or "no flags"
        return InputError(f"flag {name}", f"is not one of suite {self.kind.verb}.", found=known, fix=fix)

    def _set(self, option: Option, value: Any) -> None:
        if option.field in self.values and not option.many:
            raise InputError(f"flag {option.name}", "is given twice.", fix=f"once, as in {option.sample}")
        self.values[option.field] = (*self.values.get(option.field, ()), *value) if option.many else value

    def _value(self, option: Option, text: str, place: int) -> Any:
        kinds = {int: ("a whole number", int), float: ("a number", float)}
        what, read = kinds.get(option.item, ("", str))
        problem, found, near = "", "", option.sample
        if option.choices and text not in option.choices:
            problem, found = f'"{text}" is unknown.', ", ".join(option.choices)
            near = f"{option.name} {closest(text, option.choices)}" if closest(text, option.choices) else near
        else:
            try:
                value = read(text)
            except ValueError:
                problem = f'"{text}" is not {what}.'
            else:
                if option.least is None or value >= option.least:
                    return value
                problem = f"{text} is less than {option.least:g}."
        fix = replaced(self.arguments, shlex.split(near), self.kind)
        raise InputError(f"flag {option.name}", problem, found=found, fix=fix)

    def _positional(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        left = list(self.given)
        for option in self.words:
            if option.many:
                values[option.field], left = tuple(left), []
            elif left:
                values[option.field] = self._word(option, left.pop(0))
            if not values.get(option.field):
                if not option.optional:
                    before = ": it stands before the fields." if self.fields else "."
                    name, fix = option.name.removesuffix(" ..."), option.fix or self.kind.examples[0]
                    raise InputError(name, f"is missing{before}", fix=fix)
                values[option.field] = option.default
        if left and self.behind and not self.words:
            at = self.arguments.index(left[0])
            fix = shlex.join(["suite", *self.kind.verb.split(), *self.arguments[:at], "--", *self.arguments[at:]])
            raise InputError(f'word "{left[0]}"', "stands before the -- that begins the command.", fix=fix)
        if left:
            expected = " ".join(option.name for option in self.words) or "no words"
            records = ["--input", left[0]] if "--input" in self.flags and "input" not in self.values else []
            kept = (argument for argument in self.arguments if argument not in left)
            fix = shlex.join(["suite", *self.kind.verb.split(), *kept, *records])
            raise InputError(f'word "{left[0]}"', f"is one too many: suite {self.kind.verb} takes {expected}.", fix=fix)
        return values

    def _word(self, option: Option, text: str) -> str:
        """A word, which is one of its choices where there are any."""
        if not option.choices or text in option.choices:
            return text
        near = closest(text, option.choices) or option.choices[0]
        fix = self.instead(self.arguments.index(text), [near])
        raise InputError(f'{option.name} "{text}"', "is unknown.", found=", ".join(option.choices), fix=fix)

    def instead(self, place: int, items: list[str], count: int = 1) -> str:
        """The command with other arguments in place of ``count`` of them."""
        arguments = [*self.arguments[:place], *items, *self.arguments[place + count :]]
        return shlex.join(["suite", *self.kind.verb.split(), *arguments])


def is_flag(text: str) -> bool:
    """Whether an argument is a flag, and no value: negative numbers, a lone ``-`` and texts are values."""
    return text.startswith("--") and text[2:3].isalpha() and " " not in text.partition("=")[0]


def _fits(option: Option, text: str) -> bool:
    if option.choices:
        return text in option.choices
    try:
        option.item(text)
    except ValueError:
        return False
    return True


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Names that ``name`` may have meant, the best first: by its last part, the whole being most like it, by initials
    (``--lr`` is ``--optim.learning_rate``), or by letters."""
    import difflib

    names = list(known)
    plain = lambda flag: flag.lstrip("-").replace("_", "-").lower()
    tail = lambda flag: plain(flag).rpartition(".")[2]
    asked = tail(name)
    alike = lambda flag: difflib.SequenceMatcher(None, plain(name), plain(flag)).ratio()
    ranked = sorted((flag for flag in names if tail(flag) == asked), key=alike, reverse=True)
    ranked += [flag for flag in names if "".join(part[0] for part in tail(flag).split("-") if part) == asked]
    whole = {plain(flag): flag for flag in names}
    ranked += [whole[near] for near in _close(plain(name), whole)]
    tails: dict[str, str] = {}
    for flag in names:
        tails.setdefault(tail(flag), flag)
    ranked += [tails[near] for near in _close(asked, tails)]
    return list(dict.fromkeys(ranked))[:most]


def is_spelling(name: str, flag: str) -> bool:
    """Whether a name is a flag, but for its section, for initials, or for some letters."""
    tail = lambda text: text.lstrip("-").replace("_", "-").lower().rpartition(".")[2]
    asked, meant = tail(name), tail(flag)
    initials = "".join(part[0] for part in meant.split("-") if part)
    return asked in (meant, initials) or bool(_close(asked, [meant], 0.75)) or meant.startswith(asked)


def _close(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, list(known), n=3, cutoff=cutoff)


def replaced(arguments: Sequence[str], flags: Sequence[str], kind: type[Flags]) -> str:
    """The command with ``flags`` (``--name value ...``) in place of those of the same names, or behind the others."""
    known = {option.name: option for option in options(kind) if option.kind == "flag"}
    normal = lambda item: item.partition("=")[0].replace("_", "-")
    names = {normal(item) for item in flags if is_flag(item)}
    words: list[str] = []
    items = list(arguments)
    tail: list[str] = []
    if any(option.kind == "command" for option in options(kind)) and "--" in items:
        at = items.index("--")
        items, tail = items[:at], items[at:]
    place = 0
    while place < len(items):
        item = items[place]
        place += 1
        if not (is_flag(item) and normal(item) in names):
            words.append(item)
            continue
        option = known.get(normal(item))
        if "=" in item or (option and option.switch):
            continue
        one = option is not None and (not option.many or option.item is str)
        while place < len(items) and not is_flag(items[place]):
            place += 1
            if one:
                break
    return shlex.join(["suite", *kind.verb.split(), *words, *flags, *tail])
