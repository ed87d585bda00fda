"""1,000 photos of Flickr8k with five captions each: heads on frozen EfficientNet-Lite0 and MiniLM, in
closed form by canonical correlation. Vectors of photos are means over views: close crops, and all mirrored.

The figures are of a pool of 200 photos and their 1,000 captions, the share of the photos by a hash of their names that
--task.data.seed gives; larger pools are harder. By contrastive training: --task.objective softmax.

source:   the sample of Flickr8k (Hodosh et al., 2013) that quantumnaan/sic_translator carries
data:     $SUITE_DATA/flickr8k_sample: 750 photos, 50 for validation, 200 for test
expected: test both_ways_10 (recall@10, mean of both ways) 75.9, 81.6 and 77.1 %, mean 78.2 (goal 78), splits 0 to 2
time:     some minutes for the vectors of the encoders, which are kept; then seconds
command:  suite train multimodal.flickr8k_match
"""

import os

from suite.configs.multimodal import match
from suite.data.sources.captions import CaptionArchive
from suite.experiment.goal import Goal
from suite.experiment.sections import Experiment
from suite.experiment.sections import replace as changed


def experiment() -> Experiment:
    archive = os.path.join(os.environ.get("SUITE_DATA", "data"), "flickr8k_sample", "flickr8k_sample.tar.gz")
    return changed(
        match.experiment(),
        {
            "name": "multimodal.flickr8k_match",
            "task.data": CaptionArchive(path=archive, validation=0.05, test=0.2),
            "task.objective": "cca",
            "task.views": ("close", "flip"),
            "train.best": "",  # 50 photos choose badly: the last checkpoint
            "train.patience": 0,
            "train.eval_every": 60,
            "goal": Goal(metric="both_ways_10", at_least=0.78, on="test"),
        },
    )


def smoke() -> Experiment:
    return match.shrunk(experiment())
