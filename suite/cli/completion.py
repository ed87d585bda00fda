"""suite completion: what a shell needs to complete verbs, flags, fields and names of recipes."""

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from suite.cli.flags import Flags, Verb, options, word

BASH = """\
# Completion of suite for bash.
_suite() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}} first=2 flags= words=
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W {verbs} -- "$word"))
        return
    fi
    case "$verb" in
{cases}
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    elif [[ $COMP_CWORD -eq $first ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    fi
}}
complete -o default -o bashdefault -F _suite suite
"""


@dataclass(frozen=True, kw_only=True)
class Completion(Flags):
    """Prints completion of verbs, flags, fields and experiments for a shell."""

    verb = "completion"
    examples = ("suite completion bash", "suite completion zsh", "suite completion fish")
    notes = (
        "What is printed belongs into a file: ~/.local/share/bash-completion/completions/suite for bash, "
        "~/.config/fish/completions/suite.fish for fish, and for zsh any that ~/.zshrc reads with source."
    )

    shell: Literal["bash", "zsh", "fish"] = word("SHELL", example="bash", fix="suite completion bash")
    """bash, zsh or fish."""


def verb_of(known: Mapping[str, Verb]) -> Verb:
    """The verb, which completes all that are ``known`` when it runs."""
    return Verb(Completion, lambda given: completion(given, list(known.values())))


def completion(given: Completion, verbs: list[Verb]) -> None:
    if given.shell == "fish":
        print(fish(verbs), end="")
    else:
        start = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
        print((start if given.shell == "zsh" else "") + bash(verbs), end="")


def flags(verb: Verb) -> list[str]:
    """Flags of a verb, and of an experiment's sections where it takes those."""
    own = [option.name for option in options(verb.flags) if option.kind == "flag"]
    return own + (fields() if verb.flags.takes_fields else [])


def fields() -> list[str]:
    """``--section.field`` of the sections that every experiment has."""
    from suite.experiment.sections import Experiment

    names: list[str] = []
    for section in dataclasses.fields(Experiment):
        kind = section.default_factory
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            names += [f"--{section.name}.{field.name}" for field in dataclasses.fields(kind)]
    return names


def words(verb: Verb) -> list[str]:
    """What the first word of a verb may be, where that is known: names of experiments, choices, other verbs."""
    from suite.experiment import recipes

    first = next((option for option in options(verb.flags) if option.kind == "word"), None)
    if first is None:
        return []
    names = recipes.names() if "EXPERIMENT" in first.name else []
    return [*first.choices, *(recipes.domains() if "DOMAIN" in first.name else ()), *names]


def bash(verbs: list[Verb]) -> str:
    """A function for bash, which zsh reads, too."""
    cases = []
    for verb in verbs:
        first, *rest = verb.name.split()
        lists = f"flags={shlex.quote(' '.join(flags(verb)))} words={shlex.quote(' '.join(words(verb)))}"
        if rest:
            lists = f"if [[ $COMP_CWORD -eq 2 ]]; then words={rest[0]}; else first=3 {lists}; fi"
        cases.append(f"        {first}) {lists} ;;")
    names = [verb.name.split()[0] for verb in verbs]
    return BASH.format(verbs=shlex.quote(" ".join(names)), cases="\n".join(cases))


def fish(verbs: list[Verb]) -> str:
    """One line a completion."""
    lines = ["# Completion of suite for fish."]
    for verb in verbs:
        first, *rest = verb.name.split()
        seen = f"__fish_seen_subcommand_from {first}"
        say = lambda *items: lines.append(shlex.join(["complete", "-c", "suite", *items]))
        say("-n", "__fish_use_subcommand", "-f", "-a", first, "-d", verb.summary)
        if rest:
            say("-n", seen, "-a", " ".join(rest))
        if words(verb):
            say("-n", seen, "-a", " ".join(words(verb)))
        for option in options(verb.flags):
            if option.kind == "flag":
                say("-n", seen, "-l", option.name[2:], *([] if option.switch else ["-r"]), "-d", option.meaning)
        if verb.flags.takes_fields:
            for field in fields():
                say("-n", seen, "-l", field[2:], "-r")
    return "\n".join(lines) + "\n"
