"""Flags of verbs: what is read, what is refused and how, and that --help says all."""

import shlex
from dataclasses import dataclass
from typing import Literal

import pytest

from suite.cli import app, help
from suite.cli.explain import Explain
from suite.cli.flags import Flags, Verb, command, flag, nearest, options, parse, replaced, word
from suite.cli.predict import Predict
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Paint(Flags):
    """Paints a house."""

    verb = "paint"
    examples = ("suite paint house --colour red",)

    house: str = word("HOUSE", example="house")
    """What is painted."""
    colour: Literal["red", "blue"] = flag("red")
    """Colour of the walls."""
    coats: int = flag(1, least=1)
    """How often."""
    share: float | None = flag(None, example="0.5")
    """Part of the wall."""
    rooms: tuple[int, ...] = flag((), example="1 2")
    """Numbers of rooms."""
    with_: tuple[str, ...] = flag((), value="TOOL", example="brush")
    """Tools."""
    dry_run: bool = flag(False)
    """Only say what would be done."""
    behind: tuple[str, ...] = command("-- WORDS", example="-- x")
    """Words for the painter."""


@dataclass(frozen=True, kw_only=True)
class Fielded(Paint):
    takes_fields = True


def refused(*arguments, kind=Paint):
    with pytest.raises(InputError) as error:
        parse(kind, arguments)
    return error.value


def test_every_kind_of_value_is_read():
    typed = "--rooms 1 2 --colour=blue --coats 3 --share -0.5 --with brush --with a,b house --dry_run -- --coats"
    given = parse(Paint, typed.split())
    assert (given.house, given.colour, given.coats, given.share) == ("house", "blue", 3, -0.5)
    assert (given.rooms, given.with_, given.dry_run, given.behind) == ((1, 2), ("brush", "a,b"), True, ("--coats",))
    plain = parse(Paint, ["house"])
    assert (plain.colour, plain.coats, plain.share, plain.rooms, plain.dry_run) == ("red", 1, None, (), False)


def test_what_is_no_flag_of_the_verb_is_a_field_of_the_experiment():
    given = parse(Fielded, ["house", "--train.steps", "3", "--coats", "2", "--optim.x", "-1", "--y=2"])
    assert given.fields == ("--train.steps", "3", "--optim.x", "-1", "--y=2") and given.coats == 2


@pytest.mark.parametrize(
    ("arguments", "where", "fix"),
    [
        (["house", "--color", "red"], "flag --color", "suite paint house --colour red"),
        (["a house", "--dryrun"], "flag --dryrun", "suite paint 'a house' --dry-run"),
        (["house", "--colour"], "flag --colour", "suite paint house --colour red"),
        (["house", "--colour", "--coats", "2"], "flag --colour", "suite paint house --colour red --coats 2"),
        (["house", "--colour", "blu"], "flag --colour", "suite paint house --colour blue"),
        (["house", "--coats", "two"], "flag --coats", "suite paint house --coats 1"),
        (["house", "--coats", "0"], "flag --coats", "suite paint house --coats 1"),
        (["--coats", "2"], "HOUSE", "suite paint house --colour red"),
        (["house", "barn"], 'word "barn"', "suite paint house"),
        (["house", "--dry-run=yes"], "flag --dry-run", "suite paint house --dry-run"),
        (["house", "-x"], "flag -x", "suite paint --help"),
    ],
)
def test_a_refusal_names_the_fault_and_a_command_that_is_right(arguments, where, fix):
    error = refused(*arguments)
    assert (error.where, error.fix) == (where, fix)
    if not fix.endswith("--help"):
        parse(Paint, shlex.split(fix)[2:])


def test_a_record_behind_the_run_is_advised_as_the_input():
    for verb in (Predict, Explain):
        error = refused("run", "a b.wav", kind=verb)
        assert (error.where, error.fix) == ('word "a b.wav"', f"suite {verb.verb} run --input 'a b.wav'")
    assert refused("run", "b", "--input", "a", kind=Predict).fix == "suite predict run --input a"


def test_a_flag_given_twice_is_refused():
    assert refused("house", "--coats", "1", "--coats", "2").problem == "is given twice."


def test_names_that_may_have_been_meant():
    fields = ["--optim.learning_rate", "--optim.weight_decay", "--train.batch_size", "--task.label", "--train.epochs"]
    for typed, meant in (
        ("--lr", "--optim.learning_rate"),
        ("--learning-rate", "--optim.learning_rate"),
        ("--bs", "--train.batch_size"),
        ("--wd", "--optim.weight_decay"),
        ("--label", "--task.label"),
        ("--train.epoch", "--train.epochs"),
        ("--optim.epochs", "--train.epochs"),
    ):
        assert nearest(typed, fields)[0] == meant
    assert nearest("--zzzz", fields) == []


def test_flags_take_the_place_of_those_of_their_name():
    given = ["a house", "--coats", "1", "--rooms", "1", "2", "--train.x", "1", "2"]
    for flags, expected in (
        (["--coats", "3"], "suite paint 'a house' --rooms 1 2 --train.x 1 2 --coats 3"),
        (["--rooms", "3"], "suite paint 'a house' --coats 1 --train.x 1 2 --rooms 3"),
        (["--train.x", "b c"], "suite paint 'a house' --coats 1 --rooms 1 2 --train.x 'b c'"),
        (["--share", "1"], "suite paint 'a house' --coats 1 --rooms 1 2 --train.x 1 2 --share 1"),
    ):
        assert replaced(given, flags, Fielded) == expected


@pytest.mark.parametrize("verb", app.VERBS.values(), ids=lambda verb: verb.name)
def test_help_gives_meaning_default_and_example_of_every_flag(verb, command):
    printed = command(*verb.name.split(), "--help")
    assert printed == help.page(verb) + "\n"
    for option in options(verb.flags):
        assert option.meaning.endswith("."), f"{option.name} of {verb.name} has no meaning"
        assert option.sample.strip("-"), f"{option.name} of {verb.name} has no example"
        assert f"  {option.usage if option.kind == 'flag' else option.name}\n" in printed
        if option.kind == "flag":
            parse(verb.flags, [*_words(verb), *shlex.split(option.sample)])
    for line in printed.splitlines():
        assert len(line) <= 80 or line.startswith("  suite ") or line.startswith("usage: "), line


def _words(verb):
    return [part for o in options(verb.flags) if o.kind == "word" and not o.optional for part in shlex.split(o.example)]


@pytest.mark.parametrize("verb", app.VERBS.values(), ids=lambda verb: verb.name)
def test_examples_of_help_are_read(verb):
    assert verb.flags.examples
    for example in verb.flags.examples:
        words = shlex.split(example)
        assert words[: 1 + len(verb.name.split())] == ["suite", *verb.name.split()]
        parse(verb.flags, words[1 + len(verb.name.split()) :])


def test_the_overview_names_every_verb(command):
    printed = command("--help")
    assert all(f"\n  {name} " in printed for name in app.VERBS)


def test_the_help_of_the_only_verb_of_its_first_word(command):
    assert command("data", "--help") == command("data", "inspect", "--help")


def test_a_verb_that_was_mistyped(refused):
    assert "try:   suite train text.classify --data 'my file.csv'\n" in refused(
        "trian", "text.classify", "--data", "my file.csv"
    )
    assert "try:   suite data inspect --data a.csv\n" in refused("data", "inspekt", "--data", "a.csv")
    assert "try:   suite --help\n" in refused("qqqqq")


@pytest.mark.parametrize("verb", app.VERBS.values(), ids=lambda verb: verb.name)
def test_no_verb_ignores_an_unknown_flag(verb, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["vision.digits_dnn"] if "EXPERIMENT" in [o.name for o in options(verb.flags)] else _words(verb)
    if verb.name == "compress":  # the fields are those of a run
        return
    printed = refused(*verb.name.split(), *words, "--bogus_flag", "1")
    assert "flag --bogus_flag: is not" in printed.splitlines()[0]


def test_a_field_that_was_mistyped(refused):
    printed = refused("train", "vision.digits_dnn", "--smoke", "--lr", "0.1")
    assert printed.splitlines()[0] == "suite train: flag --lr: is not a field of vision.digits_dnn."
    assert printed.splitlines()[-1] == "  try:   suite train vision.digits_dnn --smoke --optim.learning_rate 0.1"
    printed = refused("train", "text.classify", "--dta", "x.csv", "--smoke")  # the verb's own flags are near, too
    assert printed.splitlines()[-1] == "  try:   suite train text.classify --smoke --data x.csv"
    printed = refused("plan", "vision.digits_dnn", "--train.step=3")
    assert printed.splitlines()[-1] == "  try:   suite plan vision.digits_dnn --train.steps=3"


@pytest.mark.parametrize(
    ("arguments", "value"), [(["--optim.learning_rate", "fast"], "0.003"), (["--train.steps", "1.5"], "0")]
)
def test_a_field_with_a_value_of_another_type(arguments, value, refused):
    printed = refused("train", "vision.digits_dnn", *arguments)
    assert printed.startswith(f"suite train: flag {arguments[0]}: ") and arguments[1] in printed.splitlines()[0]
    assert printed.splitlines()[-1] == f"  try:   suite train vision.digits_dnn {arguments[0]} {value}"
    assert len(printed.splitlines()) == 3 and not set(printed) & set("│╭╰─")


def test_a_value_that_its_section_refuses(refused):
    """What a section says of its own values is told as it is, and not as a value of another type."""
    printed = refused("train", "vision.digits_dnn", "--model.dropout", "2")
    assert printed.startswith("suite train: field model.dropout: must be at least 0 and below 1")


def test_a_field_whose_choice_is_unknown(refused):
    printed = refused("train", "vision.digits_dnn", "--optim.name", "adam")
    assert printed.startswith("suite train: flag --optim.name: ") and "adamw" in printed
    assert printed.splitlines()[-1] == "  try:   suite train vision.digits_dnn --optim.name adamw"


def test_verbs_have_one_table():
    assert all(isinstance(verb, Verb) and verb.name == name for name, verb in app.VERBS.items())
