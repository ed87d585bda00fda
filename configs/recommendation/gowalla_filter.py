"""The places that a user of Gowalla visits, by the others that the user visited, with the normalised item-item filter.

source:   check-ins of Gowalla (SNAP), in the form in which LightGCN is published with them
data:     $SUITE_DATA/gowalla: 29,858 users, 40,981 places; train 719,081, validation 91,047, test 217,242 events
expected: test recall_20 0.186, ndcg_20 0.153 (goal test recall_20 0.185); powers chosen on 3,000 users of validation
time:     45 seconds of a core, and 30 for the test
command:  suite train recommendation.gowalla_filter
"""

import os
from dataclasses import replace

from suite.configs.recommendation import linear
from suite.data.sources.item_lists import ItemLists
from suite.experiment.goal import Goal, Search
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    return changed(
        replace(linear.experiment(), name="recommendation.gowalla_filter", search=Search()),
        {
            "task.data": ItemLists(path=os.path.join(os.environ.get("SUITE_DATA", "data"), "gowalla")),
            "task.method": "filter",
            "task.user_power": 0.35,
            "task.history_power": 0.75,
            "task.candidate_power": 0.25,
            "model.neighbours": 500,
            "task.refit": True,
            "train.baseline": False,
            "goal": Goal(metric="recall_20", at_least=0.185, on="test"),
        },
    )


def smoke() -> Experiment:
    return changed(experiment(), {"model.neighbours": 10})
