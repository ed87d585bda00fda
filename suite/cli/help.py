"""Help texts: of the command line, and of each verb, from the table of its flags."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping

from suite.cli.flags import Option, Verb, options

INDENT = 6


def overview(verbs: Mapping[str, Verb]) -> str:
    """``suite --help``: each verb with what it does."""
    wide = max(map(len, verbs)) + 2
    lines = ["usage: suite VERB ...", ""]
    for name, verb in verbs.items():
        lines += _wrapped(f"  {name:{wide}}", verb.summary.rstrip("."), wide + 2)
    lines += [
        "",
        "suite VERB --help              words and flags of a verb, with examples",
        "suite train EXPERIMENT --help  every field of an experiment: --section.field VALUE",
        "suite --version                version of the suite",
        "suite completion bash          completion for a shell: bash, zsh or fish",
        "",
        "EXPERIMENT is a name that suite list prints, or a .py file with experiment().",
        "Exit codes: 0 done, 1 failed, 2 input refused, 3 goal or --max-drop missed, 75 interrupted and can go on.",
    ]
    return "\n".join(lines)


def usage(verb: Verb) -> str:
    """The verb with its words, and what may follow."""
    known = options(verb.flags)
    words = [f"[{option.name}]" if option.optional else option.name for option in known if option.kind == "word"]
    flags = ["[--flag VALUE ...]"] if any(option.kind == "flag" for option in known) else []
    fields = ["[--section.field VALUE ...]"] if verb.flags.takes_fields else []
    behind = [option.name for option in known if option.kind == "command"]
    return " ".join(["suite", verb.name, *words, *flags, *fields, *behind])


def page(verb: Verb) -> str:
    """``suite VERB --help``."""
    known = options(verb.flags)
    about = " ".join((verb.flags.__doc__ or "").split())
    lines = [f"usage: {usage(verb)}", "", *_wrapped("", about, 0)]
    for title, kinds in (("words", ("word", "command")), ("flags", ("flag",))):
        chosen = [option for option in known if option.kind in kinds]
        if chosen:
            lines += ["", f"{title}:"]
            for option in chosen:
                lines += _option(option)
    if verb.flags.takes_fields:
        note = "Every field of an experiment is a flag, too: "
        lines += ["", *_wrapped("", f"{note}suite train EXPERIMENT --help lists them.", 0)]
    if verb.flags.notes:
        lines += ["", *_wrapped("", verb.flags.notes, 0)]
    lines += ["", "examples:", *(f"  {example}" for example in verb.flags.examples)]
    return "\n".join(lines)


def without(option: Option) -> str:
    """What holds where the flag is not given."""
    if option.otherwise:
        return option.otherwise
    if option.switch:
        return "on" if option.default else "off"
    if option.default in ("", (), None):
        return "none"
    return " ".join(map(str, option.default)) if isinstance(option.default, tuple) else str(option.default)


def _option(option: Option) -> Iterable[str]:
    yield f"  {option.usage if option.kind == 'flag' else option.name}"
    yield from _wrapped(" " * INDENT, option.meaning, INDENT)
    if option.kind == "flag":
        yield from _wrapped(" " * INDENT, f"default: {without(option)}; e.g. {option.sample}", INDENT)
    else:
        yield from _wrapped(" " * INDENT, f"e.g. {option.sample}", INDENT)


def _wrapped(first: str, text: str, indent: int) -> list[str]:
    width = max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False) or [
        first.rstrip()
    ]
