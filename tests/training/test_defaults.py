"""Defaults: open fields are chosen from the training data once, what is stated stays, and the run holds the choice."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

import suite
from suite.contracts.data import Source
from suite.contracts.defaults import Chosen, Defaults
from suite.errors import InputError
from suite.experiment.defaults import settled
from suite.experiment.goal import Choice, Goal, Search
from suite.experiment.sections import Experiment, replace
from suite.models.parts import Parts
from tests import toy


@dataclass(frozen=True, kw_only=True)
class ByRecords(Defaults):
    """A model as wide as a tenth of the records."""

    def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
        yield Chosen("model.width", len(train) // 10, f"{len(train)} records")
        yield Chosen("train.steps", 4, "a test")


def open_experiment(**train: Any) -> Experiment:
    """The width is open, and the steps unless they are given."""
    experiment = toy.experiment(**{"steps": 0, "eval_every": 2, **train})
    return replace(experiment, {"model.width": 0, "defaults": ByRecords()})


def test_open_fields_are_chosen_and_told():
    experiment = open_experiment()
    chosen, lines = settled(experiment, experiment.task.source("train"))
    assert (chosen.model.width, chosen.train.steps, chosen.defaults) == (20, 4, None)
    assert lines[1:] == ["  --model.width 20: 200 records", "  --train.steps 4: a test"]


def test_what_is_stated_stays():
    experiment = replace(open_experiment(), {"model.width": 5})
    chosen, lines = settled(experiment, experiment.task.source("train"))
    assert chosen.model.width == 5
    assert not any("width" in line for line in lines)


def test_a_part_that_the_data_does_not_need_is_left_out():
    class WithoutImage(Defaults):
        def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
            yield Chosen("model.parts.image", None, "no pictures")

    parts = Parts(parts={"text": toy.Config(), "image": toy.Config()})
    experiment = dataclasses.replace(toy.experiment(), model=parts, defaults=WithoutImage())
    chosen, lines = settled(experiment, experiment.task.source("train"))
    assert list(chosen.model.parts) == ["text"]
    assert lines[1:] == ["  without model.parts.image: no pictures"]


def test_a_field_that_does_not_exist_is_refused():
    class Misspelt(Defaults):
        def choose(self, experiment: Any, train: Source) -> Iterable[Chosen]:
            yield Chosen("model.widht", 3)

    experiment = dataclasses.replace(toy.experiment(), defaults=Misspelt())
    with pytest.raises(InputError, match="widht"):
        settled(experiment, experiment.task.source("train"))


def test_the_run_holds_what_was_chosen_and_goes_on_with_it(tmp_path, capsys):
    run = suite.train(open_experiment(), tmp_path / "run")
    assert "--model.width 20: 200 records" in capsys.readouterr().err
    stored = json.loads((tmp_path / "run" / "experiment.json").read_text())
    assert (stored["model"]["width"], stored["train"]["steps"], stored["defaults"]) == (20, 4, None)
    assert run.experiment.model.width == 20
    again = suite.train(open_experiment(), tmp_path / "run", resume=True)
    assert again.experiment.model.width == 20
    assert "--model.width" not in capsys.readouterr().err


def test_a_search_begins_from_what_was_chosen(tmp_path):
    experiment = replace(
        open_experiment(steps=4), {"search": Search(space=(Choice(field="model.width", among=(20, 30)),))}
    )
    verdict = suite.tune(experiment, tmp_path / "search", goal=Goal("accuracy>=0.0"))
    assert verdict.values == {"model.width": 20}
    assert verdict.run.experiment.model.width == 20
