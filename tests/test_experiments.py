"""Recipes in files: classes of their own, which other modules and processes cannot know."""

import sys

import numpy as np
import pytest

import suite
from suite.errors import InputError
from suite.experiment import recipes

RECIPE = '''
from __future__ import annotations

from dataclasses import dataclass, field
from tests import toy
from suite.experiment.sections import replace
import dataclasses

@dataclass(frozen=True, kw_only=True)
class Wider(toy.Config):
    more: int = 4
    """Units besides."""

    def build(self, *, rngs):
        return toy.Net(dataclasses.replace(self, width=self.width + self.more), rngs=rngs)

@dataclass(frozen=True, kw_only=True)
class Own(toy.Parity):
    pass

def experiment():
    made = toy.experiment(steps=4, eval_every=4)
    return replace(made, {"task": Own(), "model": Wider(), "pipeline.workers": WORKERS})
'''


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe_of_its_own.py"
    path.write_text(RECIPE.replace("WORKERS", "0"))
    yield path
    sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_recipe_with_a_model_and_a_task_of_its_own(recipe, workers, monkeypatch):
    recipe.write_text(RECIPE.replace("WORKERS", str(workers)))
    made = suite.train(recipes.load(str(recipe)), recipe.parent / "run")
    assert made.metrics["train/steps"] == 4 and type(made.experiment.model).__name__ == "Wider"
    answers = made.predict([[1, 2, 3]])

    del sys.modules[recipe.stem]  # as in another process
    with pytest.raises(InputError, match="--allow PACKAGE"):
        suite.open(made.folder, allow=("tests",))
    with pytest.raises(InputError, match=r"does not exist\.\n  try:   PYTHONPATH=FOLDER"):
        suite.open(made.folder, allow=("tests", recipe.stem))
    monkeypatch.syspath_prepend(recipe.parent)
    opened = suite.open(made.folder, allow=("tests", recipe.stem))
    np.testing.assert_equal(opened.predict([[1, 2, 3]]), answers)


def test_a_recipe_called_like_a_module_leaves_that_one_alone(tmp_path):
    path = tmp_path / "wave.py"
    path.write_text("from tests.toy import experiment\n")
    assert recipes.load(str(path)).name == "toy.parity"
    import wave

    assert hasattr(wave, "open")


def test_a_recipe_that_fails_leaves_no_module(recipe):
    recipe.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        recipes.load(str(recipe))
    assert recipe.stem not in sys.modules


def test_two_recipes_of_one_name(recipe, tmp_path):
    other = tmp_path / "other" / recipe.name
    other.parent.mkdir()
    other.write_text(RECIPE.replace("WORKERS", "0").replace("more: int = 4", "more: int = 8"))
    assert recipes.load(str(recipe)).model.more == 4
    assert recipes.load(str(other)).model.more == 8
