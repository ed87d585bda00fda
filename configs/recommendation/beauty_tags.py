"""The product that a customer of Amazon Beauty reviews next, with SASRec whose items have categories and brands.

source:   Amazon reviews, 5-core, prepared by RUCAIBox/CIKM2020-S3Rec; citation asked for
data:     SUITE_DATA/amazon_beauty: as in beauty_sasrec, and 637 attributes of the 12,101 items
expected: not measured yet (goal test ndcg_10 0.0468)
time:     not measured yet
command:  suite train recommendation.beauty_tags
"""

from dataclasses import replace

from suite.configs.recommendation.beauty_sasrec import beauty
from suite.configs.recommendation.beauty_sasrec import experiment as sasrec
from suite.configs.recommendation.sequence_tags import shrunk, with_tags
from suite.data.preprocessing.item_tags import ItemTags
from suite.data.sources.item_columns import TagsOfItems
from suite.experiment.sections import Experiment


def experiment() -> Experiment:
    tags = ItemTags(data=TagsOfItems(path=beauty("Beauty_item2attributes.json.gz")))
    return with_tags(replace(sasrec(), name="recommendation.beauty_tags"), tags)


def smoke() -> Experiment:
    return shrunk(experiment())
