"""Experiments as JSON and back, what a stored experiment may name, and fields changed by name."""

import json
import sys

import pytest

from suite.errors import InputError
from suite.experiment import recipes, serialization
from suite.experiment.sections import Optim, replace
from suite.experiment.serialization import from_json, to_json
from suite.runs.run import read_experiment
from tests import toy


@pytest.mark.parametrize("name", [*recipes.names(), "toy"])
@pytest.mark.parametrize("smoke", [False, True])
def test_round_trip(name, smoke, tmp_path):
    made = toy.experiment() if name == "toy" else recipes.load(name, smoke)
    serialization.dump(made, tmp_path / "experiment.json")
    assert read_experiment(tmp_path / "experiment.json", allow=("tests",)) == made
    assert made.name in ("toy.parity", name)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.dict",
        "eval",
        "",
        "suitelike.Thing",
        "tests.toy.Parity",
    ],
)
def test_classes_of_others_are_refused(name):
    with pytest.raises(InputError, match="which is not one of the suite's"):
        from_json({"class": name, "command": "true"})


def test_a_refused_class_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "evil_plugin.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="--allow PACKAGE"):
        from_json({"class": "evil_plugin.Task"})
    assert "evil_plugin" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "suite.runs.run.subprocess",
        "suite.runs.verbs.train",
        "suite.contracts.task.np.load",
        "suite.runtime.files.os.system",
        "suite.errors.InputError",
        "suite.data.sources.datasets.Memory",
    ],
)
def test_only_dataclasses_are_built(name):
    with pytest.raises(InputError, match=r"which is no dataclass|which does not exist"):
        from_json({"class": name})


def test_a_dataclass_of_others_within_our_module_is_refused():
    """``suite.experiment.sections.field`` and friends are reachable by name, but only what is a dataclass counts."""
    with pytest.raises(InputError):
        from_json({"class": "suite.experiment.sections.Path", "args": ["/"]})


def test_nested_classes_are_checked_too():
    stored = to_json(toy.experiment())
    stored["task"]["class"] = "os.system"
    with pytest.raises(InputError, match=r'names the class "os\.system"'):
        from_json(stored, allow=("tests",))


def test_unknown_fields_are_refused():
    stored = {**to_json(Optim()), "learning_rat": 1.0}
    with pytest.raises(InputError, match="has no field learning_rat"):
        from_json(stored)


def test_what_is_no_json_or_no_experiment(tmp_path):
    stored = tmp_path / "experiment.json"
    stored.write_text('{"class": ')
    with pytest.raises(InputError, match="is not JSON"):
        read_experiment(stored)
    stored.write_text(json.dumps(to_json(Optim())))
    with pytest.raises(InputError, match="does not hold an experiment"):
        read_experiment(stored)


def test_arrays_cannot_be_stored():
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        to_json([object()])


def test_replace_changes_what_it_names_and_nothing_else():
    old = toy.experiment()
    new = replace(old, {"optim.learning_rate": 3e-5, "train.steps": 500, "task.examples": 10})
    assert (new.optim.learning_rate, new.train.steps, new.task.examples) == (3e-5, 500, 10)
    assert replace(new, {"optim": old.optim, "train.steps": 40, "task.examples": 200}) == old


@pytest.mark.parametrize(
    "typo, near",
    [
        ("optim.learning_rat", "optim.learning_rate"),
        ("trian.steps", "train.steps"),
        ("model.widht", "model.width"),
        ("task.digit", "task.digits"),
    ],
)
def test_replace_names_the_nearest_field(typo, near):
    with pytest.raises(InputError) as error:
        replace(toy.experiment(), {typo: 1})
    assert (error.value.where, error.value.fix) == (f"field {typo}", near)


def test_replace_below_a_value():
    with pytest.raises(InputError, match=r'"value" is no field here'):
        replace(toy.experiment(), {"train.steps.value": 1})


def test_a_field_holds_what_it_is_declared_as_or_another_of_its_contract():
    """A tokenizer in the place of another, as where published weights bring their own; neither a text nor a model."""
    from suite.data.preprocessing.characters import Characters
    from suite.data.preprocessing.tokenizers import Published
    from suite.data.sources.datasets import SyntheticSentiment
    from suite.decoding.generation import Decoding
    from suite.tasks.text.language_modelling import LanguageModelling

    stored = to_json(LanguageModelling(data=SyntheticSentiment(), decoding=Decoding()))
    assert from_json({**stored, "vocabulary": to_json(Published())}).vocabulary == Published()
    assert from_json({**stored, "vocabulary": to_json(Characters())}).vocabulary == Characters()
    for wrong in ("tokens.json", 7, None, to_json(Characters())):
        with pytest.raises(InputError, match="its decoding is no Decoding"):
            from_json({**stored, "decoding": wrong})
