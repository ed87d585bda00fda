"""Parameters of every recipe, which must not drift: paths, sizes and types, as tests/golden has them.

UPDATE_GOLDEN=1 writes the tables anew.
"""

import difflib
import os
from pathlib import Path

import pytest
from flax import nnx

from suite.experiment import recipes
from suite.training.preprocessors import fill
from suite.tree import paths

GOLDEN = Path(__file__).parent / "golden"
SMALL = {"stem_width": 32, "stem_stride": 2, "blocks": (1, 1, 1), "widths": (32, 64, 128)}
"""Of the residual network that small pictures get."""
DIMS = {
    "multimodal.an4_match": {"audio.inputs": 13, "text.vocab_size": 32},
    "multimodal.clip": {"channels": 3, "vocab_size": 49408},
    "multimodal.flickr8k_match": {"image.channels": 3, "text.vocab_size": 30522},
    "multimodal.match": {"image.channels": 3, "text.vocab_size": 30522},
    "multimodal.match_sounds": {"audio.inputs": 80, "text.vocab_size": 40},
    "recommendation.avazu_deepfm": {"rows": 4000, "fields": 21, "lists": (), "inputs": 0},
    "recommendation.beauty_gru4rec": {"vocab_size": 12070},
    "recommendation.beauty_sasrec": {"vocab_size": 12070},
    "recommendation.beauty_tags": {"sequence.vocab_size": 12070, "tags.size": 637},
    "recommendation.citeulike_tags": {"user.rows": 5568, "item.rows": 12800, "item.features": 19136},
    "recommendation.click": {"rows": 1000, "fields": 5, "lists": (3,), "inputs": 4},
    "recommendation.criteo_deepfm": {"rows": 9000, "fields": 26, "lists": (), "inputs": 25},
    "recommendation.gowalla_filter": {"vocab_size": 40_981},
    "recommendation.linear": {"vocab_size": 1002},
    "recommendation.gowalla_lightgcn": {"user.rows": 29888, "item.rows": 41024},
    "recommendation.movielens_bpr": {"user.rows": 960, "item.rows": 1728},
    "recommendation.movielens_deepfm": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_din": {"rows": 2700, "fields": 6, "lists": (6, 50), "inputs": 1, "histories": ((1, 1),)},
    "recommendation.movielens_dnn": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_ease": {"vocab_size": 1654},
    "recommendation.movielens_fm": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_lightgcn": {"user.rows": 960, "item.rows": 1728},
    "recommendation.movielens_lr": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_mmoe": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1, "outputs": 2},
    "recommendation.movielens_private": {"rows": 2700, "fields": 6, "lists": (6,), "inputs": 1},
    "recommendation.movielens_sasrec": {"vocab_size": 1680},
    "recommendation.multitask": {"rows": 1000, "fields": 5, "lists": (3,), "inputs": 4, "outputs": 2},
    "recommendation.retrieve": {"user.rows": 960, "item.rows": 1728, "item.features": 64},
    "recommendation.sequence": {"vocab_size": 1002},
    "recommendation.sequence_tags": {"sequence.vocab_size": 1002, "tags.size": 20},
    "speech.an4_ctc": {"inputs": 13, "outputs": 29},
    "speech.an4_wavenet_ctc": {"inputs": 13, "outputs": 29},
    "speech.arctic_fraser": {"acoustic.symbols": 41, "acoustic.bands": 80},
    "speech.classify": {"inputs": 64, "outputs": 5},
    "speech.fsdd_ctc": {"inputs": 40, "outputs": 17},
    "speech.fsdd_hifigan": {"inputs": 64},
    "speech.fsdd_keyword": {"inputs": 40, "outputs": 10},
    "speech.fsdd_synthesize": {"acoustic.symbols": 16, "acoustic.bands": 64, "acoustic.speakers": 6},
    "speech.fsdd_private": {"inputs": 32, "outputs": 10},
    "speech.fsdd_wavenet": {"inputs": 64},
    "speech.fsdd_wavenet_ctc": {"inputs": 40, "outputs": 17},
    "speech.fsdd_pretrain": {"audio.inputs": 40, "predictor.outputs": 100},
    "speech.pretrain": {"audio.inputs": 80, "predictor.outputs": 100},
    "speech.pretrain_contrast": {},
    "speech.recognize": {"inputs": 80, "outputs": 30},
    "speech.synthesize": {"acoustic.symbols": 40, "acoustic.bands": 80, "acoustic.speakers": 3},
    "speech.transcribe": {"vocab_size": 1000},
    "speech.vocode": {"inputs": 80, "speakers": 3},
    "speech.vocode_hifigan": {"inputs": 80, "speakers": 3},
    "table.finetune": {
        "table.inputs": 4,
        "table.bins": 48,
        "table.rows": 1000,
        "table.fields": 5,
        "table.lists": (3,),
        "table.vectors": (384, 64, 64),
        "table.outputs": 1,
        "text.vocab_size": 30522,
        "image.channels": 3,
        "audio.inputs": 64,
    },
    "table.predict": {
        "table.inputs": 4,
        "table.bins": 48,
        "table.rows": 1000,
        "table.fields": 5,
        "table.lists": (3,),
        "table.vectors": (32, 64, 64),
        "table.outputs": 1,
        "text.rows": 2000,
        "image.channels": 3,
        "audio.inputs": 64,
    },
    "text.adapt": {"text.vocab_size": 30522},
    "text.classify": {"rows": 40_000, "outputs": 3},
    "text.embed": {"vocab_size": 30522},
    "text.encoder": {"vocab_size": 4000, "outputs": 3},
    "text.finetune": {"vocab_size": 30522, "outputs": 3},
    "text.imdb_mlm": {"text.vocab_size": 8000},
    "text.pretrain": {"text.vocab_size": 8000},
    "text.imdb_encoder": {"vocab_size": 16000, "outputs": 2},
    "text.language_model": {"vocab_size": 4000},
    "text.multi30k_translation": {"vocab_size": 6000},
    "text.label": {"rows": 12800, "outputs": 7},
    "text.pair": {"vocab_size": 30522, "outputs": 3},
    "text.regress": {"rows": 12800, "outputs": 1},
    "text.shakespeare_gpt": {"vocab_size": 69},
    "text.sst2_encoder": {"vocab_size": 8000, "outputs": 2},
    "text.sst2_minilm": {"vocab_size": 30522, "outputs": 2},
    "text.sst2_minilm_10k": {"vocab_size": 30522, "outputs": 2},
    "text.sst2_private": {"vocab_size": 30522, "outputs": 2},
    "text.sst2_student": {"vocab_size": 30522, "outputs": 2},
    "text.synthetic_sentiment": {"vocab_size": 200, "outputs": 2},
    "text.tag": {"vocab_size": 4000, "outputs": 9},
    "text.translate": {"vocab_size": 8000},
    "vision.bccd_lite0": {"backbone.channels": 3, "outputs": 3},
    "vision.cifar10_resnet20": {"channels": 3, "outputs": 10},
    "vision.cifar10_simclr": {"image.channels": 3},
    "vision.classify": {"channels": 3, "outputs": 5, **SMALL},
    "vision.detect": {"backbone.channels": 3, "outputs": 5},
    "vision.detr": {"backbone.channels": 3, "outputs": 5},
    "vision.digits_dnn": {"inputs": 64, "outputs": 10},
    "vision.embed": {"channels": 3, **SMALL},
    "vision.fashion_mnist_dnn": {"inputs": 784, "outputs": 10},
    "vision.fashion_mnist_flow": {"channels": 1, "outputs": 10},
    "vision.fashion_mnist_private": {"height": 28, "width": 28, "channels": 1, "outputs": 10},
    "vision.fashion_mnist_resnet": {"channels": 1, "outputs": 10},
    "vision.fashion_mnist_resnet18": {"channels": 1, "outputs": 10},
    "vision.finetune": {"channels": 3, "outputs": 5},
    "vision.generate": {"channels": 3, "outputs": 5, "patch": 2, "widths": (64, 96, 128)},
    "vision.generate_text": {
        "text.vocab_size": 30522,
        "network.channels": 3,
        "network.patch": 2,
        "network.widths": (64, 96, 128),
    },
    "vision.label": {"channels": 3, "outputs": 5, **SMALL},
    "vision.segment": {"backbone.channels": 3, "outputs": 5},
    "vision.pretrain": {"image.channels": 3, **{f"image.{name}": value for name, value in SMALL.items()}},
    "vision.pretrain_masked": {"image.channels": 3, "image.height": 64, "image.width": 64},
    "vision.regress": {"channels": 3, "outputs": 1, **SMALL},
    "vision.imagenet_resnet50": {"channels": 3, "outputs": 1000},
}
"""What the data of each recipe gives the model: sizes and classes."""


@pytest.mark.parametrize("name", recipes.names())
def test_parameters_are_those_of_the_golden_table(name):
    dims = DIMS[name]
    model = fill(recipes.load(name).model, dims)
    state = nnx.state(nnx.eval_shape(lambda: model.build(rngs=nnx.Rngs(0))), nnx.Param)
    leaves = paths(nnx.to_pure_dict(state))
    # A parameter of a weak type loses it at the first step, and the second step then compiles once more.
    assert not [path for path, leaf in leaves.items() if leaf.weak_type]
    lines = [f"{path} {'x'.join(map(str, leaf.shape))} {leaf.dtype}" for path, leaf in sorted(leaves.items())]
    lines.append(f"total {sum(leaf.size for leaf in leaves.values())}")
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text("\n".join(lines) + "\n")
    stored = file.read_text().splitlines()
    assert lines == stored, "\n".join(difflib.unified_diff(stored, lines, "golden", "now", lineterm=""))


def test_no_golden_table_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(recipes.names())
