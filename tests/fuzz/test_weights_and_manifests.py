"""Files of strangers' weights and bundles, nearly right: read, or refused in words within seconds; never a traceback.

Tensors in safetensors; the JSON files beside them; the manifest of a bundle, whose version and signature-to-be fit, as
whoever makes such a bundle would see to.
"""

import json
import time
import traceback

import pytest

from suite.bundles import manifest
from suite.bundles.bundle import Bundle
from suite.data.preprocessing import tokenizer_files
from suite.errors import InputError
from suite.weights import image_statistics, pretrained, published, safetensors
from suite.workflow import encoders
from tests.fuzz import json_values
from tests.fuzz.mutations import mutated
from tests.parity import golden
from tests.untrained import copied

SECONDS = 10.0
"""Most for one case, on a busy machine."""
TELLING = (
    b"\x00",
    b"\xff" * 8,
    b'"shape"',
    b'"dtype"',
    b"F32",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"9" * 30,
    b"-1",
    b"null",
)
BESIDE = {
    "preprocessor_config.json": {
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "size": {"shortest_edge": 224},
    },
    "tokenizer_config.json": {"do_lower_case": True, "model_max_length": 10**30, "add_eos_token": True},
    "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}],
}  # fmt: skip


def attempt(budget, content, *calls):
    """Runs each of ``calls``; whatever it raises other than InputError fails the fuzzer, as does taking too long."""
    for call in calls:
        begun = time.monotonic()
        try:
            call()
        except InputError as error:
            assert error.where and error.problem
        except Exception:
            budget.failed(traceback.format_exc(limit=-6), content)
        if (seconds := time.monotonic() - begun) > SECONDS:
            budget.failed(f"took {seconds:.1f} s", content)


def every_tensor(folder):
    weights = published.open(folder)
    for name in weights.readers:
        weights.read(name)


def test_safetensors(budget, tmp_path):
    """By the library that reads published ones, and by the reader of bundles."""
    folder = golden.folder(golden.load("bert_classifier"), tmp_path / "weights")
    file = folder / "model.safetensors"
    good = file.read_bytes()
    head = good[: 8 + int.from_bytes(good[:8], "little")]
    for _, generator in budget:
        damaged = mutated(head, generator, TELLING) + good[len(head) :] if generator.random() < 0.7 else b""
        file.write_bytes(content := damaged or mutated(good, generator, TELLING))
        attempt(budget, content, lambda: every_tensor(folder), lambda: safetensors.read(file))


@pytest.mark.parametrize("case", ["bert_classifier", "gpt2"])
def test_files_beside_weights(case, budget, tmp_path):
    """config.json, and what is read beside it."""
    published_case = golden.load(case)
    folder = golden.folder(published_case, tmp_path / "weights")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nfilm\n")
    pretrained.load(folder)
    whole = {"config.json": published_case.config, **BESIDE}
    calls = (
        lambda: pretrained.load(folder),
        lambda: image_statistics.image_statistics(published.open(folder)),
        lambda: tokenizer_files.collected(folder, ""),
        lambda: encoders._modules(folder / "modules.json"),
    )
    for _, generator in budget:
        for name, value in whole.items():
            (folder / name).write_text(json.dumps(value))
        name = "config.json" if generator.random() < 0.6 else list(BESIDE)[int(generator.integers(len(BESIDE)))]
        (folder / name).write_bytes(content := json_values.text(whole[name], generator))
        attempt(budget, content, *(calls if name != "config.json" else calls[:2]))


def test_manifests(budget, exported, tmp_path):
    """Changed and resealed, so that what is behind version and checksums is reached; and damaged."""
    folder = copied(exported("images")[1], tmp_path / "bundle")
    good = json.loads((folder / "bundle.json").read_text())

    def used():
        bundle = Bundle.open(folder, cache=False)
        assert bundle.codec.answer_schema and bundle.codec.inputs and bundle.programs

    for _, generator in budget:
        content = json_values.text(good, generator)
        try:
            value = json.loads(content)
            value["version"] = manifest._version(value)
            content = json.dumps(value).encode()
        except (ValueError, TypeError, RecursionError, AttributeError):
            pass
        (folder / "bundle.json").write_bytes(content)
        attempt(budget, content, used)
