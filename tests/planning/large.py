"""Experiments as large as those in use, and the shapes of their batches, for compilers of devices that are not here."""

from typing import Any

from suite.experiment.sections import Experiment, Optim, Parallel, Precision, Train
from suite.models import decoder, deepfm, transformer
from suite.tasks.recommendation.click import ClickPrediction
from suite.tasks.text.classification import TextClassification
from suite.tasks.text.language_modelling import LanguageModelling

Shapes = dict[str, tuple[tuple[int, ...], str]]


def _experiment(name: str, task: Any, model: Any, batch: int, **changes: Any) -> Experiment:
    sections = {"precision": Precision(compute="bfloat16"), "optim": Optim(schedule="constant"), **changes}
    return Experiment(name=name, task=task, model=model, train=Train(batch_size=batch), **sections)


def _mask(batch: int) -> Shapes:
    return {"mask": ((1, batch), "bool"), "seed": ((1, batch), "uint32")}


def _tokens(batch: int, length: int) -> Shapes:
    return {"tokens": ((1, batch, length), "int32"), "tokens_mask": ((1, batch, length), "bool")}


def gpt2(
    batch: int = 8, context: int = 1024, parallel: Parallel = Parallel(), **model: Any
) -> tuple[Experiment, Shapes]:
    """124 million parameters, without dropout, as it is pretrained today; ``model`` changes its configuration."""
    sizes = {"vocab_size": 50257, "max_length": context, "dropout": 0.0, "attention_dropout": 0.0, **model}
    task = LanguageModelling(data=None, context=context)
    shapes: Shapes = {**_tokens(batch, context + 1), **_mask(batch)}
    return _experiment("gpt2", task, decoder.Config(**sizes), batch, parallel=parallel), shapes


def gpt2_xl(batch: int = 8, parallel: Parallel = Parallel(), **model: Any) -> tuple[Experiment, Shapes]:
    """1.5 billion parameters."""
    sizes = {"layers": 48, "width": 1600, "heads": 25, "scan_layers": True, "remat": "full", **model}
    return gpt2(batch, parallel=parallel, **sizes)


def llama(batch: int = 8, parallel: Parallel = Parallel(), **model: Any) -> tuple[Experiment, Shapes]:
    """7 billion parameters in the shape of Llama."""
    shape = {"vocab_size": 32000, "layers": 32, "width": 4096, "heads": 32, "feed_forward": 11008, "norm": "rms"}
    kinds = {"positions": "rotary", "activation": "swiglu", "bias": False, "feed_forward_bias": False, "tied": False}
    return gpt2(batch, 2048, parallel, **{**shape, **kinds, "scan_layers": True, "remat": "full", **model})


def bert(
    batch: int = 32, length: int = 128, parallel: Parallel = Parallel(), **model: Any
) -> tuple[Experiment, Shapes]:
    """110 million parameters, dropout as published."""
    sizes = {"vocab_size": 30522, "outputs": 2, "layers": 12, "width": 768, "heads": 12, "feed_forward": 3072}
    kinds = {"norm": "post", "embedding_norm": True, "pooling": "cls", "pooler": "tanh", "token_types": 2}
    dropout = {"dropout": 0.1, "attention_dropout": 0.1}
    task = TextClassification(data=None)
    shapes: Shapes = {**_tokens(batch, length), "label": ((1, batch), "int32"), **_mask(batch)}
    model_config = transformer.Config(**{**sizes, **kinds, **dropout, **model})
    return _experiment("bert_base", task, model_config, batch, parallel=parallel), shapes


def clicks(
    rows: int = 260_000, batch: int = 4096, parallel: Parallel = Parallel(), **model: Any
) -> tuple[Experiment, Shapes]:
    """DeepFM over 26 columns of clicks, whose table is updated by rows."""
    sizes = {"rows": rows, "fields": 26, "width": 15, "hidden": (400, 400), **model}
    shapes: Shapes = {
        "ids": ((1, batch, 26), "int32"),
        "label": ((1, batch), "float32"),
        "dense": ((1, batch, 0), "float32"),
        "weights": ((1, batch, 0), "float32"),
        **_mask(batch),
    }
    task = ClickPrediction(data=None)
    return _experiment("clicks", task, deepfm.Config(**sizes), batch, parallel=parallel), shapes
