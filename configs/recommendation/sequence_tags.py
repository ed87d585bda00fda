"""Your own events with a table of items: what a user takes next, by what the user took before and what is known of it.

source:   your table of events, as for recommendation.sequence, and a table of items with a row each
data:     the table of items has the column that names items in the events, and tags: texts parted by |, or lists
expected: depends on the data
time:     depends on the data
command:  suite train recommendation.sequence_tags --data events.csv --task.time time --task.tags.data.path items.csv
"""

from dataclasses import replace

from suite.configs.recommendation import sequence
from suite.data.preprocessing.item_tags import ItemTags
from suite.data.sources.datasets import Table
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed
from suite.models import tags as tags_model
from suite.models.parts import Parts


def experiment() -> Experiment:
    recipe = replace(sequence.experiment(), name="recommendation.sequence_tags")
    return with_tags(recipe, ItemTags(data=Table(path="")))


def smoke() -> Experiment:
    return shrunk(experiment())


def with_tags(recipe: Experiment, tags: ItemTags) -> Experiment:
    """The recipe with the tags of the items; its model becomes a part."""
    width = recipe.model.width  # type: ignore[attr-defined]
    parts = Parts(parts={"sequence": recipe.model, "tags": tags_model.Config(width=width)})
    items = replace(recipe.task.items, part="sequence")  # type: ignore[attr-defined]
    search = recipe.search and replace(
        recipe.search, space=tuple(replace(one, field=one.field.replace("model.", PART)) for one in recipe.search.space)
    )
    return changed(recipe, {"task.tags": tags, "task.items": items, "model": parts, "search": search})


PART = "model.parts.sequence."
"""Where fields of the model of sequences stand."""


def shrunk(recipe: Experiment) -> Experiment:
    """A few steps of a narrow network."""
    changes = {"train.steps": 6, "train.log_every": 2, "train.batch_size": 16, "task.max_length": 15}
    return changed(recipe, {**changes, f"{PART}width": 16, "model.parts.tags.width": 16})
