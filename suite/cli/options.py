"""What verbs are given: words, flags of their own, and fields of the experiment."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    return tyro.cli(
        Experiment,
        default=experiment,
        args=arguments,
        prog=program,
        description=about,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
        use_underscores=True,
    )


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
