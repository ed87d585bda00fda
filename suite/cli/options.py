"""Options of the command line: a verb's words, its own flags, and fields of the experiment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.errors import InputError

if TYPE_CHECKING:
    from suite.experiment.sections import Experiment


@dataclass(frozen=True)
class Options:
    """Flags of a verb that are not fields of the experiment.

    Attributes:
        words: positional arguments.
        named: flag name without dashes -> value.
        rest: everything else, for tyro.
    """

    words: list[str]
    named: dict[str, str]
    rest: list[str]


def split_options(arguments: list[str], flags: tuple[str, ...], switches: tuple[str, ...] = ()) -> Options:
    """Take ``flags`` (with a value), ``switches`` (without) and leading words out of ``arguments``."""
    words: list[str] = []
    named: dict[str, str] = {}
    rest: list[str] = []
    items = iter(arguments)
    for item in items:
        name, has_value, value = item.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        if item.startswith("--") and name in switches:
            named[name] = "yes"
        elif item.startswith("--") and name in flags:
            named[name] = value if has_value else next(items, "")
            if not named[name]:
                raise InputError(f"flag --{name}", "needs a value.")
        elif item.startswith("-") or rest:
            rest.append(item)
        else:
            words.append(item)
    return Options(words, named, rest)


def resolve(name: str, options: Options, verb: str) -> "Experiment":
    """The experiment ``name`` with ``--data`` and the ``--section.field`` flags applied."""
    from suite.experiment import recipes, sections

    experiment = recipes.load(name, smoke="smoke" in options.named)
    if "data" in options.named:
        from suite.data.sources.datasets import from_path

        experiment = sections.replace(experiment, {"task.data": from_path(options.named["data"])})
    if "offline" in options.named:
        experiment = sections.replace(experiment, {"checkpoint.offline": True})
    return apply_flags(experiment, options.rest, f"suite {verb} {name}")


def apply_flags(experiment: "Experiment", arguments: list[str], program: str) -> "Experiment":
    """Fields set by typed flags; tyro prints help, and suggestions on a typo, and exits with 2."""
    if not arguments:
        return experiment
    import tyro

    from suite.experiment.sections import Experiment

    arguments = [_current_flag(re.sub(r"^--finetune(?==|$)", "--finetune.kind", item)) for item in arguments]
    about = f"Every field of the experiment. Other flags: {' '.join(program.split()[:2])} --help."
    with _grammar():
        return tyro.cli(
            Experiment,
            default=experiment,
            args=arguments,
            prog=program,
            description=about,
            config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
            use_underscores=True,
        )


def _grammar() -> Any:
    """How tyro reads fields that hold one value, or one by name: ``SOURCE`` or ``PART=SOURCE ...``, and ``8 16`` or
    ``AXIS=8,16 ...``."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def by_axis(info: PrimitiveTypeInfo) -> Any:
        if info.type != tuple[int, ...] | Mapping[str, tuple[int, ...]]:
            return None
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="[INT ...]|[AXIS=INT,INT ...]",
            instance_from_str=lengths,
            is_instance=lambda value: isinstance(value, tuple | Mapping),
            str_from_instance=lambda value: (
                list(map(str, value))
                if isinstance(value, tuple)
                else [f"{axis}={','.join(map(str, known))}" for axis, known in value.items()]
            ),
        )

    @registry.primitive_rule
    def by_part(info: PrimitiveTypeInfo) -> Any:
        if info.type != str | Mapping[str, str]:
            return None
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="SOURCE|[PART=SOURCE ...]",
            instance_from_str=sources,
            is_instance=lambda value: isinstance(value, str | Mapping),
            str_from_instance=lambda value: (
                [value] if isinstance(value, str) else [f"{part}={source}" for part, source in value.items()]
            ),
        )

    return registry


def lengths(arguments: list[str]) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    """Padded lengths of the default axis, or by axis from ``AXIS=8,16``; plain numbers beside these are the default's.

    Raises:
        ValueError: an argument is neither.
    """
    plain = tuple(int(argument) for argument in arguments if "=" not in argument)
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    by_axis = {axis: tuple(map(int, known.split(","))) for axis, known in named.items()}
    return {**({"": plain} if plain else {}), **by_axis} if by_axis else plain


def sources(arguments: list[str]) -> str | dict[str, str]:
    """One source, which may be empty, or one for each part of a model, from ``PART=SOURCE``.

    Raises:
        ValueError: several arguments that are not all of that form, or a part that is named twice.
    """
    parts = [re.match(r"([A-Za-z]\w*)=(.+)$", argument) for argument in arguments]
    if len(arguments) == 1 and (parts[0] is None or Path(arguments[0]).exists()):
        return arguments[0]
    by_part = {part[1]: part[2] for part in parts if part}
    if len(by_part) != len(arguments):
        raise ValueError("one SOURCE, or PART=SOURCE once for each part")
    return by_part or ""


def _current_flag(argument: str) -> str:
    """A flag under the present name of its field."""
    from suite.experiment.former_names import current_field

    name, has_value, value = argument.removeprefix("--").partition("=")
    return f"--{current_field(name)}{has_value}{value}" if argument.startswith("--") else argument


def word(options: Options, name: str, fix: str) -> str:
    if not options.words:
        raise InputError(name, "is missing.", fix=fix)
    no_more(options.words[1:], f"one {name}")
    return options.words[0]


def no_more(extra: list[str], fix: str) -> None:
    if extra:
        raise InputError("arguments", f"{' '.join(extra)} is not understood.", fix=fix)


def allow(options: Options) -> tuple[str, ...]:
    return tuple(filter(None, options.named.get("allow", "").split(",")))
