"""Heads of published weights and of runs go to the data's outputs by name, never by position."""

import json
import logging
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import suite
from suite.models import resnet, transformer, vit, wav2vec2
from suite.training import initial_weights
from suite.training.preprocessors import bind, output_names
from suite.tree import paths
from suite.weights import heads, pretrained
from tests.untrained import TASKS, untrained

BODY = {"layers": 1, "heads": 2, "feed_forward": 8}
BERT = {"vocab_size": 12, "width": 8, "max_length": 8, "norm": "post", "embedding_norm": True, "pooling": "cls", **BODY}
FAMILIES = {
    "bert": transformer.Config(**BERT, outputs=3, token_types=2),
    "roberta": transformer.Config(**BERT, outputs=3, token_types=1, position_offset=2),
    "distilbert": transformer.Config(**BERT, outputs=3, pooler="relu", epsilon=1e-12),
    "vit": vit.Config(height=8, width=8, channels=3, outputs=3, patch=4, hidden=8, **BODY),
    "vit-timm": vit.Config(height=8, width=8, channels=3, outputs=3, patch=4, hidden=8, **BODY),
    "resnet": resnet.Config(channels=3, outputs=3, blocks=(1,), widths=(8,), stem_width=8),
    "resnet-classic": resnet.Config(channels=3, outputs=3, blocks=(1, 1, 1, 1), widths=(8,) * 4),
    "resnet-cifar": resnet.resnet20(channels=3, outputs=3),
}


def variables(config, seed):
    _, params, rest = nnx.split(config.build(rngs=nnx.Rngs(seed)), nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def head(params):
    return {name: np.array(leaf) for name, leaf in paths(params).items() if name.startswith("head/")}


def published(config, form, folder, about):
    """(the head's arrays, the folder) of weights whose head has no row like another."""
    params, rest = variables(config, 1)
    for place, name in enumerate(("kernel", "bias")):
        shape = params["head"][name].shape
        params["head"][name] = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + place
    pretrained.save(config, params, rest, folder, format=form, about=about)
    return head(params), folder


def filled(config, folder, outputs, caplog):
    """(head before, head after, what was said)"""
    params, rest = variables(config, 2)
    before = head(params)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        after, _ = pretrained.fill(config, params, rest, folder, outputs=outputs)
    return before, head(after), caplog.text


@pytest.mark.parametrize("form", FAMILIES)
def test_rows_go_to_the_classes_of_their_names(form, tmp_path, caplog):
    config = FAMILIES[form]
    names = ["Positive", "neutral ", "NEGATIVE"]
    timm = form in ("vit-timm", "resnet-classic", "resnet-cifar")
    about = {"label_names": names} if timm else {"id2label": dict(enumerate(names))}
    theirs, folder = published(config, form, tmp_path / "w", about)
    _, after, said = filled(config, folder, ["negative", "neutral", "positive"], caplog)
    for name, value in theirs.items():
        np.testing.assert_array_equal(after[name], value[..., [2, 1, 0]])
    assert "3 outputs found by name, in the order of the data's (negative, neutral, positive)" in said
    before, after, said = filled(config, folder, ["negative", "neutral", "spam"], caplog)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert "new head: the weights have no spam (theirs: Positive, neutral , NEGATIVE)" in said


def test_label2id_says_the_order_too(tmp_path, caplog):
    config = FAMILIES["bert"]
    about = {"id2label": None, "label2id": {"b": 1, "c": 0, "a": 2}}
    theirs, folder = published(config, "bert", tmp_path / "w", about)
    _, after, _ = filled(config, folder, ["a", "b", "c"], caplog)
    np.testing.assert_array_equal(after["head/kernel"], theirs["head/kernel"][..., [2, 1, 0]])


def test_a_head_without_names_is_made_anew_and_said(tmp_path, caplog):
    config = FAMILIES["bert"]
    theirs, folder = published(config, "bert", tmp_path / "w", {})
    before, after, said = filled(config, folder, ["a", "b", "c"], caplog)
    np.testing.assert_array_equal(after["head/kernel"], before["head/kernel"])
    assert "new head: the weights call their 3 classes LABEL_0, ..., which names none" in said
    # Classes that are numbers are named by LABEL_0 and its like.
    _, after, _ = filled(config, folder, ["0", "1", "2"], caplog)
    np.testing.assert_array_equal(after["head/kernel"], theirs["head/kernel"])


def test_weights_without_a_head_say_so(tmp_path, caplog):
    config = FAMILIES["bert"]
    params, rest = variables(replace(config, outputs=0), 1)
    pretrained.save(replace(config, outputs=0), params, rest, tmp_path / "w", format="bert")
    assert "new head: the weights have none" in filled(config, tmp_path / "w", ["a", "b", "c"], caplog)[2]


@pytest.mark.parametrize("form", FAMILIES)
def test_a_model_without_outputs_leaves_the_head_out(form, tmp_path):
    config = FAMILIES[form]
    params, rest = variables(config, 1)
    pretrained.save(config, params, rest, tmp_path / "w", format=form)
    body = replace(config, outputs=0)
    filled_params, _ = pretrained.fill(body, *variables(body, 2), tmp_path / "w")
    wanted = {name: leaf for name, leaf in paths(params).items() if not name.startswith("head/")}
    filled_paths = paths(filled_params)
    # The layer below a head of RoBERTa and DistilBERT is the head's own.
    assert {name for name in wanted if not name.startswith("pooler/")} <= filled_paths.keys()
    assert not any(name.startswith("head/") for name in filled_paths)
    for name, leaf in filled_paths.items():
        if not name.startswith("pooler/"):
            np.testing.assert_array_equal(leaf, wanted[name])
    # What is written of the body alone is read as a body.
    if form not in ("roberta", "distilbert"):
        pretrained.save(body, filled_params, rest, tmp_path / "body", format=form)
        again, module = pretrained.load(tmp_path / "body")
        assert again.outputs == 0 and module.head is None


def test_symbols_of_speech_go_by_the_vocabulary(tmp_path, caplog):
    """CTC: blank, unknown and blank between words by the tokenizer's names; letters without case; spare ones left."""
    small = {
        "conv_widths": (4, 4),
        "conv_kernels": (10, 3),
        "conv_strides": (5, 2),
        "width": 8,
        "position_kernel": 4,
        "position_groups": 2,
        **BODY,
    }
    theirs, folder = published(wav2vec2.Config(**small, outputs=7), "wav2vec2", tmp_path / "w", {})
    symbols = ["<pad>", "<s>", "|", "<unk>", "B", "'", "A"]
    (folder / "vocab.json").write_text(json.dumps({symbol: place for place, symbol in enumerate(symbols)}))
    own = ["", "\N{REPLACEMENT CHARACTER}", " ", "'", "a", "b"]
    config = wav2vec2.Config(**small, outputs=6)
    _, after, said = filled(config, folder, own, caplog)
    np.testing.assert_array_equal(after["head/kernel"], theirs["head/kernel"][..., [0, 3, 2, 5, 6, 4]])
    np.testing.assert_array_equal(after["head/bias"], theirs["head/bias"][..., [0, 3, 2, 5, 6, 4]])
    assert "6 outputs found by name" in said
    same_size = wav2vec2.Config(**small, outputs=7)
    before, after, said = filled(same_size, folder, [*own, "ä"], caplog)
    np.testing.assert_array_equal(after["head/kernel"], before["head/kernel"])
    assert "new head: the weights have no ä" in said


def test_a_head_of_another_kind_is_left_and_said(tmp_path, caplog):
    """wav2vec 2.0's own classifier sees a projection of the frames, which the family has not."""
    small = {
        "conv_widths": (4,),
        "conv_kernels": (10,),
        "conv_strides": (5,),
        "width": 8,
        "position_kernel": 4,
        "position_groups": 2,
        **BODY,
    }
    body = wav2vec2.Config(**small, pooling="hidden")
    pretrained.save(body, *variables(body, 1), tmp_path / "w", format="wav2vec2")
    file = tmp_path / "w" / "model.safetensors"
    tensors = {f"wav2vec2.{name}": value for name, value in load_file(file).items()}
    more = {"projector.weight": np.ones((4, 8)), "projector.bias": np.ones(4), "classifier.weight": np.ones((2, 4))}
    save_file(tensors | {name: value.astype(np.float32) for name, value in more.items()}, file)
    config = wav2vec2.Config(**small, outputs=2, pooling="mean")
    before, after, said = filled(config, tmp_path / "w", ["a", "b"], caplog)
    np.testing.assert_array_equal(after["head/kernel"], before["head/kernel"])
    assert "new head: theirs (classifier.weight) is of another kind" in said


@pytest.mark.parametrize(
    ("own", "theirs", "rows"),
    [
        (["a", "b"], ["a", "b"], (0, 1)),
        (["a", "b"], ["B", " a "], (1, 0)),
        (["a", "A"], ["A", "a"], (1, 0)),  # case tells them apart: exact names alone
        (["a", "A"], ["a", "b"], ()),
        (["very good", "bad"], ["Bad", "very  good"], (1, 0)),
        (["a", "b"], ["a", "b", "c"], ()),
        (["a", "b"], [], ()),
        (["1", "2"], ["LABEL_0", "LABEL_1"], ()),
        (["label_1", "label_0"], ["LABEL_0", "LABEL_1"], (1, 0)),
    ],
)
def test_names(own, theirs, rows):
    assert heads.match(own, theirs).rows == rows


def test_a_run_is_matched_by_name_too(tmp_path, monkeypatch):
    """A run whose classes stand in another order, or are others, though as many."""
    run = untrained(TASKS["images"](tmp_path), tmp_path / "run")
    shutil.copytree(run.folder, tmp_path / "own")
    experiment = suite.replace(run.experiment, {"checkpoint.init_from": str(run.folder)})
    experiment, names = bind(experiment, tmp_path / "own"), output_names(run.experiment.task)
    monkeypatch.setattr(initial_weights, "best_weights", lambda *_: run._weights)
    fresh = jax.tree.map(lambda leaf: leaf + 1, run._weights)

    def started(labels):
        (run.folder / "assets" / "labels.json").write_text(json.dumps({"names": labels, "indexed": True}))
        params = initial_weights.initial_weights(experiment, run._weights, fresh)[0]["layers"]
        np.testing.assert_array_equal(params[0]["kernel"], run._weights[0]["layers"][0]["kernel"])
        return np.asarray(params[1]["kernel"])

    plain = np.asarray(run._weights[0]["layers"][1]["kernel"])
    np.testing.assert_array_equal(started(names), plain)
    np.testing.assert_array_equal(started(names[::-1]), plain[..., ::-1])
    np.testing.assert_array_equal(started([*names[:-1], "other"]), plain + 1)
