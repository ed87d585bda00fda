from dataclasses import replace

from suite.configs.vision import regress
from suite.data.preprocessing.target import Target
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.tasks.vision.defaults import ByPictures


def experiment() -> Experiment:
    recipe = replace(regress.experiment(), name="vision.label", defaults=ByPictures(whole=True))
    return changed(recipe, {"task.answer": Target(problem="labels")})


def smoke() -> Experiment:
    return regress.shrunk(experiment())
