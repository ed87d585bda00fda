"""Advice of errors: what reads as flags or as a command can be pasted into a shell; placeholders have no blanks."""

import ast
import dataclasses
import shlex

import pytest

from suite.cli import app
from suite.cli.flags import is_flag, options, parse
from suite.errors import InputError
from suite.experiment.sections import Experiment
from tests.conftest import ROOT

SECTIONS = {field.name for field in dataclasses.fields(Experiment)} | {"distill", "prune"}
QUOTES = ("quote", "join", "unused", "typed", "install", "len", "int", "min", "max", "type")
"""Functions whose results a shell reads as one word, or as several that are meant."""
OWN = {option.name for verb in app.VERBS.values() for option in options(verb.flags) if option.kind == "flag"}


def fixes():
    """(place, expression) of each advice in the source."""
    for top in ("suite", "tasks", "configs"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if top == "suite" and path.relative_to(ROOT / "suite").parts[0] in ("tasks", "configs"):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "fix":
                    value, place = node.value, node.value.lineno
                elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "fix":
                    value, place = node.value, node.lineno
                else:
                    continue
                for part in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
                    if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and part.value):
                        yield f"{path.relative_to(ROOT)}:{place}", part


FIXES = list(fixes())


def text_of(part):
    """The advice with a word in each hole, and the holes that no shell is known to read as one word."""
    if isinstance(part, ast.Constant):
        return str(part.value), []
    text, open_ = "", []
    for value in part.values:
        if isinstance(value, ast.Constant):
            text += str(value.value)
            continue
        in_name = text.endswith(("--", ".")) and not text.endswith(" .")  # part of the name of a flag
        text += "x7" if in_name else "7"
        if in_name:
            continue
        called = value.value.func if isinstance(value.value, ast.Call) else None
        name = getattr(called, "id", getattr(called, "attr", ""))
        number = value.format_spec is not None or isinstance(value.value, ast.BinOp)
        if name not in QUOTES and not number and ast.unparse(value.value) != "self.kind.verb":
            open_.append(ast.unparse(value.value))
    return text, open_


def refusal(text):
    """Why advice that reads as flags or a command cannot be pasted; empty where it can."""
    if " && " in text:
        return "".join(map(refusal, text.split(" && ")))
    if text.startswith("--"):
        if not app.is_advice(text):
            return "is prose that begins like a flag"
        unknown = [
            word
            for word in shlex.split(text)
            if is_flag(word)
            and word.partition("=")[0].replace("_", "-") not in OWN
            and word[2:].partition(".")[0].partition("=")[0] not in SECTIONS
            and "x7" not in word
        ]
        return f"names {', '.join(unknown)}, which no verb takes" if unknown else ""
    if text.startswith("suite ") and not text.endswith("--help"):
        words = [word.replace("7", "cpu") if "--platforms" in text else word for word in shlex.split(text)[1:]]
        name, rest = app._split(words)
        try:
            parse(app._verb(name, rest).flags, rest)
        except InputError as error:
            return str(error)
    if text.startswith(("pip ", "tfds ", "iconv ", "openssl ")):
        shlex.split(text)
    return ""


@pytest.mark.parametrize(("place", "part"), FIXES, ids=[place for place, _ in FIXES])
def test_advice_can_be_pasted(place, part):
    text, holes = text_of(part)
    assert not refusal(text), f"{place}: {text!r}: {refusal(text)}"
    if text.startswith(("--", "suite ", "pip ", "tfds ")):
        assert not holes, f"{place}: {text!r}: quote {holes}"
