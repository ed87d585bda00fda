"""The product that a customer of Amazon Beauty reviews next, by those reviewed before, with GRU4Rec.

source:   Amazon reviews, 5-core, prepared by RUCAIBox/CIKM2020-S3Rec; citation asked for
data:     SUITE_DATA/amazon_beauty: as in beauty_sasrec
expected: not measured yet; published ndcg_10 0.0137 with another loss (goal test ndcg_10 0.0137)
time:     not measured yet
command:  suite train recommendation.beauty_gru4rec
"""

from dataclasses import replace

from suite.configs.recommendation.beauty_sasrec import experiment as sasrec
from suite.configs.recommendation.sequence import shrunk
from suite.experiment.sections import Experiment
from suite.models import gru


def experiment() -> Experiment:
    recipe = sasrec()
    goal = recipe.goal and replace(recipe.goal, at_least=0.0137)
    return replace(
        recipe, name="recommendation.beauty_gru4rec", model=gru.Config(width=64, state=128, dropout=0.5), goal=goal
    )


def smoke() -> Experiment:
    return shrunk(experiment())
