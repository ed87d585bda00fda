"""Fields of an experiment on the command line, ``--section.field VALUE``: tyro reads them, the suite words refusals."""

import contextlib
import io
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli.flags import is_flag, is_spelling, nearest
from suite.errors import InputError, closest

if TYPE_CHECKING:
    from suite.experiment.sections import Experiment


def apply_flags(experiment: "Experiment", arguments: list[str], program: str, own: Sequence[str] = ()) -> "Experiment":
    """Fields set by typed flags. ``--help`` prints all fields of the experiment and exits.

    Args:
        program: the command before the fields, such as ``suite train text.classify``.
        own: flags of the verb, which an unknown one may have meant as well.

    Raises:
        InputError: there is no such field, or a value is not of its type.
    """
    if not arguments:
        return experiment
    arguments = list(map(_current_flag, arguments))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return _read(experiment, arguments, program)
    except SystemExit as stop:
        if not stop.code:
            raise
        if (refused := _raised_by_a_field(stop)) is not None:
            raise _of_flag(refused, arguments) from None
    raise _refusal(experiment, arguments, program, said.getvalue(), own)


def typed_fields(arguments: Sequence[str]) -> list[str]:
    """Dotted names of the fields that typed flags set."""
    names = (_current_flag(item).partition("=")[0] for item in arguments if is_flag(item))
    return [name.removeprefix("--").replace("-", "_") for name in names]


def _raised_by_a_field(stop: BaseException) -> InputError | None:
    """What the check of a section said of its own values, behind the words of the parser; None where they are of the
    wrong type."""
    behind: BaseException | None = stop
    while behind is not None and not isinstance(behind, InputError):
        behind = behind.__cause__ or behind.__context__
    return behind


def _of_flag(error: InputError, arguments: Sequence[str]) -> InputError:
    """The error with the flag in place of the field, where it names a field of a class and one flag sets such a one."""
    named = re.fullmatch(r"field (\w+) of [\w -]+", error.where)
    names = [item.partition("=")[0] for item in arguments if is_flag(item)]
    flags = [name for name in names if named and name.rpartition(".")[2].replace("-", "_") == named[1]]
    if not named or len(flags) != 1:
        return error
    field, _, value = error.fix.partition(" ")
    fix = f"{flags[0]} {value}" if field == named[1] else error.fix
    return InputError(f"flag {flags[0]}", error.problem, found=error.found, fix=fix)


def _read(experiment: "Experiment", arguments: list[str], program: str) -> "Experiment":
    import tyro

    from suite.experiment.sections import Experiment

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


def known_fields(experiment: "Experiment") -> dict[str, str]:
    """``--section.field`` -> the name of its value, such as ``FLOAT``, for each field of the experiment."""
    printed = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(printed):
        _read(experiment, ["--help"], "suite train")
    flags = re.findall(r"(--[\w.]+) ([^\n\u2502]*)", printed.getvalue())
    return {name: value.strip() for name, value in flags if name != "--help"}


def _refusal(
    experiment: "Experiment", arguments: list[str], program: str, said: str, own_flags: Sequence[str]
) -> InputError:
    """What tyro said, in three lines."""
    known = known_fields(experiment)
    normal = lambda flag: flag.partition("=")[0].replace("-", "_").replace("__", "--", 1)
    for place, argument in enumerate(arguments):
        if is_flag(argument) and normal(argument) not in known:
            name = argument.partition("=")[0]
            near = nearest(name, [*own_flags, *known])
            fix = " ".join([*program.split(), "--help"])
            if near and is_spelling(name, near[0]):  # of another meaning, it would do something else in silence
                instead = [*arguments[:place], argument.replace(name, near[0], 1), *arguments[place + 1 :]]
                fix = f"{program} {shlex.join(instead)}"
            return InputError(f"flag {name}", f"is not a field of {experiment.name}.", found=", ".join(near), fix=fix)
    text = " ".join(re.sub(r"[\u2500-\u257f]", " ", said).split())
    asked = [normal(flag) for flag in re.findall(r"--[\w.-]+", text) if normal(flag) in known]
    given = {normal(argument): place for place, argument in enumerate(arguments) if is_flag(argument)}
    at = next((flag for flag in asked if flag in given), "")
    if not at:
        named = text.rpartition(":")[2].split()
        extra = [word for word in arguments if word in named]
        fix = f"{program} {shlex.join(word for word in arguments if word not in extra)}"
        return InputError(f'word "{" ".join(extra)}"', "is one too many: it belongs to no flag.", fix=fix)
    own, shape = _value(experiment, at.removeprefix("--")), known[at]
    problem, meant = _problem(_behind(arguments, given[at]), shape, text)
    found = ", ".join(_choices(shape)) or (f"{own} in the recipe" if own else "")
    meant = (
        meant or _example(experiment, at.removeprefix("--")) or own or _repeated(_behind(arguments, given[at]), shape)
    )
    return InputError(f"flag {at}", problem, found=found, fix=f"{at} {meant}" if meant else f"{program} --help")


SHAPES = {"FLOAT": "a number", "INT": "a whole number", "{True,False}": "True or False", "{None}": "None"}


def _choices(shape: str) -> list[str]:
    """The words that a flag takes one or more of; none where it takes other values."""
    words = re.search(r"\{(\w[^{} ]*)\}", shape)
    return words[1].split(",") if words and shape not in SHAPES and words[1] != "None" else []


def _problem(values: list[str], shape: str, said: str) -> tuple[str, str]:
    """What is wrong with the values of a flag, and which value may have been meant."""
    given = " ".join(values)
    if not values:
        return "needs a value.", ""
    if choices := _choices(shape):
        unknown = next((value for value in values if value not in choices), given)
        return f'"{unknown}" is unknown.', closest(unknown, choices)
    own = re.search(r"one SOURCE, or PART=SOURCE once for each part", said)  # of the rules below
    if own:
        return f"takes {own[0]}.", ""
    return f'"{given}" is not {" or ".join(map(_form, shape.split("|")))}.', ""


def _form(shape: str) -> str:
    """What a value must be, by the form that tyro writes, such as ``INT INT``."""
    if shape in SHAPES:
        return SHAPES[shape]
    words = shape.strip("{}").split()
    if len(words) > 1 and set(words) in ({"INT"}, {"FLOAT"}):
        return f"{len(words)} {SHAPES[words[0]].partition(' ')[2]}s"
    return f"of the form {shape}"


def _repeated(values: list[str], shape: str) -> str:
    """One number as often as the flag takes it, such as the side of a square."""
    some = re.search(r"\b(INT|FLOAT)(?: \1)+(?=$|\})", shape)
    alone = len(values) == 1 and values[0].isdecimal()
    return " ".join(values * len(some[0].split())) if some and alone else ""


def _behind(arguments: list[str], place: int) -> list[str]:
    """The values of the flag at ``place``."""
    _, has_value, value = arguments[place].partition("=")
    end = place + 1
    while end < len(arguments) and not is_flag(arguments[end]):
        end += 1
    return [value] if has_value else arguments[place + 1 : end]


def _value(experiment: "Experiment", name: str) -> str:
    """The field's value as it is typed; empty where it has none that can be."""
    value: Any = experiment
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    if isinstance(value, tuple | list):
        return shlex.join(map(str, value))
    return shlex.quote(str(value)) if isinstance(value, str | int | float) and value != "" else ""


def _example(experiment: "Experiment", name: str) -> str:
    """A value that switches on what the field's own one may leave off; empty where the field has none."""
    *sections, last = name.split(".")
    section: Any = experiment
    for part in sections:
        section = section.get(part) if isinstance(section, Mapping) else getattr(section, part, None)
    fields = getattr(section, "__dataclass_fields__", {})
    return str(fields[last].metadata.get("example", "")) if last in fields else ""


def _grammar() -> Any:
    """How tyro reads switches, and fields that hold one value, or one by name: ``SOURCE`` or ``PART=SOURCE ...``, and
    ``8 16`` or ``AXIS=8,16 ...``."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def switch(info: PrimitiveTypeInfo) -> Any:
        if info.type is not bool:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="{True,False}",
            instance_from_str=lambda arguments: _switched(arguments[0]),
            is_instance=lambda value: isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

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


def _switched(text: str) -> bool:
    """True or False, in letters of any size.

    Raises:
        ValueError: it is neither.
    """
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text} is neither True nor False")
    return text.lower() == "true"


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

    argument = re.sub(r"^--finetune(?==|$)", "--finetune.kind", argument)
    name, has_value, value = argument.removeprefix("--").partition("=")
    return f"--{current_field(name)}{has_value}{value}" if argument.startswith("--") else argument
