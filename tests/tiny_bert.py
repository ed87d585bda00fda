"""A tiny published BERT, for tests."""

import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from suite.errors import InputError
from tests.parity import golden

CASE = golden.load("bert_classifier")


@pytest.fixture
def folder(tmp_path):
    """A tiny BERT with a classifier of 3 classes."""
    return golden.folder(CASE, tmp_path / "bert")


def rewritten(folder, change):
    """``folder`` with its tensors passed through ``change``."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def variables(config, seed=0):
    _, params, rest = nnx.split(config.build(rngs=nnx.Rngs(seed)), nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def refusal(function, *args, **options):
    with pytest.raises(InputError) as error:
        function(*args, **options)
    return str(error.value)
