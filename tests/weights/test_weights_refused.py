"""Published weights that are refused, and how that reads; names on the hub."""

import json
import pickle
import shutil

import jax
import numpy as np
import pytest

from suite.models import dnn, transformer
from suite.weights import pretrained
from tests.parity import golden
from tests.tiny_bert import CASE, folder, refusal, rewritten, variables

__all__ = ["folder"]


def test_another_family(folder):
    config = dnn.Config(inputs=4, outputs=2)
    assert refusal(pretrained.fill, config, *variables(config), folder) == (
        f'weights "{folder}": are of suite.models.transformer, not suite.models.dnn.\n'
        "  try:   weights of the model's own family"
    )
    assert refusal(transformer.Config().adopt, config) == (
        "field checkpoint.init_from: names weights of suite.models.dnn.\n"
        "  found: a model of suite.models.transformer\n"
        "  try:   weights of BERT, MiniLM, RoBERTa or DistilBERT"
    )
    assert refusal(config.adopt, transformer.Config()) == (
        "field checkpoint.init_from: suite.models.dnn has no published weights to start from.\n"
        "  found: suite.models.transformer\n"
        "  try:   a model of that family, or a run folder"
    )


def test_a_checkpoint_of_another_family_on_the_command_line(refused, tmp_path):
    source = golden.folder(golden.load("gpt2"), tmp_path / "gpt2")
    data = tmp_path / "reviews.csv"
    data.write_text("text,label\n" + "\n".join(f"film {i} was {('bad', 'good')[i % 2]},{i % 2}" for i in range(80)))
    said = refused(
        "train",
        "text.encoder",
        "--smoke",
        "--data",
        data,
        "--checkpoint.init_from",
        source,
        "--run-dir",
        tmp_path / "run",
    )
    assert said == (
        "suite train: field checkpoint.init_from: names weights of suite.models.decoder.\n"
        "  found: a model of suite.models.transformer\n"
        "  try:   weights of BERT, MiniLM, RoBERTa or DistilBERT\n"
    )
    assert not (tmp_path / "run").exists()


def test_an_unknown_format(folder):
    (folder / "config.json").write_text('{"model_type": "perceptron"}')
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": are of no known format.\n'
        '  found: model_type "perceptron"\n'
        f"  try:   one of {', '.join(sorted(pretrained.formats()))}"
    )
    assert {"bert", "roberta", "distilbert"} <= pretrained.formats().keys()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda data: data[: len(data) // 2], "incomplete metadata, file not fully covered"),
        (lambda data: data[:5], "header too small"),
        (lambda data: data.replace(b'"shape":[40,16]', b'"shape":[41,16]', 1), "invalid shape, data type, or offset"),
        (lambda data: data + b"more", "incomplete metadata, file not fully covered"),
        (lambda data: (2**62).to_bytes(8, "little") + data[8:], "header too large"),
        (lambda data: data[:8] + b"}" + data[9:], "invalid JSON in header"),
    ],
    ids=["cut in two", "no header", "another shape", "longer", "huge header", "header is no JSON"],
)
def test_a_damaged_safetensors_file(folder, damage, found):
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    said = refusal(pretrained.load, folder).splitlines()
    assert said[0] == f'weights "{file}": are cut short or tampered with.'
    assert said[1].startswith("  found: Error while deserializing header: " + found)
    assert said[2:] == ["  try:   fetch them again"]


def test_a_damaged_npz_file(folder):
    (folder / "model.safetensors").unlink()
    np.savez(folder / "weights.npz", **golden.weights(CASE.shapes))
    file = folder / "weights.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert refusal(pretrained.load, folder) == (
        f'weights "{file}": are cut short or tampered with.\n  found: File is not a zip file\n  try:   fetch them again'
    )
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 64]) + whole[middle + 64 :])
    said = refusal(pretrained.load, folder)
    assert said.startswith(f'weights "{folder}": are cut short or tampered with.\n  found: its tensor bert.')
    np.savez(file, weights=np.array([object()]))
    said = refusal(pretrained.load, folder)  # unused, and nothing of it is unpickled
    assert "unused: weights" in said


CONVERTER = (
    "where PyTorch is: python -c 'import sys, torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() "
    "for k, v in torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])' pytorch_model.bin model.safetensors"
)


def test_a_pickle_of_more_than_tensors(folder):
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    file.write_bytes(pickle.dumps(print))
    said = (
        f'weights "{file}": are a pickle that holds more than tensors by name, and reading such a one runs the code in '
        "it: refused.\n"
        "  found: the name 'builtins.print'\n"
        f"  try:   {CONVERTER}"
    )
    assert refusal(pretrained.load, folder) == said
    assert refusal(pretrained.load, file) == said
    file.rename(folder / "model.pkl")
    assert "found: a file of any Python objects" in refusal(pretrained.load, folder)
    (folder / "model.pkl").unlink()
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": have no model.safetensors, no model.safetensors.index.json, no .npz file, no '
        "flax_model.msgpack and no pytorch_model.bin.\n"
        "  found: config.json\n"
        "  try:   another revision or repository"
    )


def test_the_config_is_missing_or_no_config(folder):
    (folder / "config.json").rename(folder / "configuration.json")
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": have no config.json, which says what the tensors mean.\n'
        "  found: configuration.json, model.safetensors\n"
        "  try:   put the published config.json beside them"
    )
    (folder / "config.json").write_text('{"model_type": ')
    assert refusal(pretrained.load, folder) == (
        f"{folder / 'config.json'}: is not JSON: Expecting value: line 1 column 16 (char 15)\n  try:   fetch it again"
    )
    (folder / "config.json").write_text("[1]")
    assert refusal(pretrained.load, folder) == (
        f"{folder / 'config.json'}: is no JSON object.\n  found: list\n  try:   fetch it again"
    )
    (folder / "config.json").write_text('{"model_type": "bert", "vocab_size": 40}')
    assert refusal(pretrained.load, folder) == (
        "config.json: does not state num_hidden_layers, hidden_size, num_attention_heads, intermediate_size, "
        "max_position_embeddings, type_vocab_size.\n"
        "  try:   the one that was published"
    )
    (folder / "config.json").write_text(json.dumps({**CASE.config, "hidden_size": "16"}))
    assert refusal(pretrained.load, folder) == (
        f"{folder / 'config.json'}: holds values that make no model.\n"
        "  found: TypeError: '<' not supported between instances of 'str' and 'int'\n"
        "  try:   fetch it again"
    )
    (folder / "config.json").write_text(json.dumps({**CASE.config, "hidden_act": "prelu"}))
    assert refusal(pretrained.load, folder).startswith(
        "config.json, hidden_act: is not something this family can do\n  found: prelu\n  try:   weights with one of "
    )
    (folder / "config.json").write_text(json.dumps({**CASE.config, "num_attention_heads": 3}))
    assert refusal(pretrained.load, folder) == (
        f"{folder / 'config.json'}: describes a model that this family cannot be: model.heads must divide width\n"
        "  found: 3 heads of width 16\n"
        "  try:   the one that was published with the tensors"
    )
    (folder / "config.json").write_text(json.dumps({**CASE.config, "position_embedding_type": "relative_key"}))
    assert refusal(pretrained.load, folder) == (
        'config.json, position_embedding_type: "relative_key" is not there.\n  try:   "absolute"'
    )


def test_a_wrong_shape(folder):
    wider = {**CASE.config, "hidden_size": 20}
    (folder / "config.json").write_text(json.dumps(wider))
    said = refusal(pretrained.load, folder)
    assert (
        "bert.embeddings.word_embeddings.weight (40, 16) gives (40, 16), the model has encoder/tokens/embedding "
        "(40, 20)" in said
    )
    alike = ("intermediate.dense.bias", "classifier.bias")  # whose size is not the width
    assert said.count("gives") == sum(not name.endswith(alike) for name in CASE.shapes)


def test_one_error_lists_all_that_does_not_fit(folder):
    def spoil(weights):
        weights["bert.encoder.layer.7.output.dense.bias"] = np.zeros(16, np.float32)
        weights["extra"] = np.zeros(1, np.float32)
        weights["embeddings.LayerNorm.bias"] = weights["bert.embeddings.LayerNorm.bias"]
        weights["bert.pooler.dense.weight"] = np.zeros((16, 15), np.float32)
        del weights["bert.encoder.layer.1.attention.self.query.bias"]
        del weights["bert.embeddings.position_embeddings.weight"]
        return weights

    assert refusal(pretrained.load, rewritten(folder, spoil)) == (
        f'weights "{folder}": don\'t fit suite.models.transformer.\n'
        "  found: unused: bert.encoder.layer.7.output.dense.bias, extra; "
        "missing: bert.embeddings.position_embeddings.weight, bert.encoder.layer.1.attention.self.query.bias; "
        "ambiguous: bert.embeddings.LayerNorm.bias and embeddings.LayerNorm.bias; "
        "misshapen: bert.pooler.dense.weight (16, 15) gives (15, 16), the model has pooler/kernel (16, 16)\n"
        "  try:   tensors and config.json of one and the same model"
    )


def test_nothing_is_replaced_where_tensors_dont_fit(folder):
    config, _ = pretrained.load(folder)
    params, model_state = variables(config)
    rewritten(folder, lambda weights: {**weights, "extra": np.zeros(1, np.float32)})
    refusal(pretrained.fill, config, params, model_state, folder)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


def test_neither_a_path_nor_a_name():
    assert refusal(pretrained.load, "/no/such/folder") == (
        'weights "/no/such/folder": are no file, no folder and no name on the Hugging Face hub.\n'
        "  try:   a folder with config.json and model.safetensors, or owner/name"
    )


def test_several_files_of_tensors(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    assert pretrained.load(folder)[0].outputs == 3
    shutil.copyfile(folder / "a.safetensors", folder / "b.safetensors")
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": have several files of tensors and no model.safetensors.index.json.\n'
        "  found: a.safetensors, b.safetensors\n"
        f"  try:   name one: {folder / 'a.safetensors'}"
    )
    assert pretrained.load(folder / "b.safetensors")[0].outputs == 3


# The hub.


def test_the_hub_gives_only_what_is_needed(folder, monkeypatch):
    asked = {}

    def snapshot(repository, **options):
        asked.update(options, repository=repository)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    config, _ = pretrained.load("google-bert/bert-tiny@abc123", offline=True)
    assert config.outputs == 3
    assert asked == {
        "repository": "google-bert/bert-tiny",
        "revision": "abc123",
        "local_files_only": True,
        "allow_patterns": ["*.json", "*.txt", "*.model", "*.spm", "*.safetensors", "*.npz"],
        "ignore_patterns": ["*/*"],
    }


def test_a_name_that_is_not_cached(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    said = refused("convert", "nobody/nothing", "--offline", "--to", tmp_path / "out")
    assert said.startswith(
        'suite convert: weights "nobody/nothing": are not in the local cache of the Hugging Face hub.\n  found: '
    )
    assert said.endswith("  try:   once without --offline, or a local folder\n")
    assert not (tmp_path / "out").exists()


def test_training_from_a_name_that_is_not_cached(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    said = refused(
        "train",
        "text.synthetic_sentiment",
        "--smoke",
        "--offline",
        "--checkpoint.init_from",
        "nobody/nothing",
        "--run-dir",
        tmp_path / "run",
    )
    assert said.startswith('suite train: weights "nobody/nothing": are not in the local cache of the Hugging Face hub.')


def test_a_hub_out_of_reach(monkeypatch):
    def unreachable(repository, **options):
        raise ConnectionError("[Errno -3] Temporary failure in name resolution\nmore")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    assert refusal(pretrained.load, "nobody/nothing") == (
        'weights "nobody/nothing": are no local folder, and the Hugging Face hub does not give them.\n'
        "  found: [Errno -3] Temporary failure in name resolution\n"
        "  try:   a local folder, the right owner/name, or a network connection"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("num_hidden_layers", 10**9, "ValueError: a size of 1,000,000,000; at most 16,777,216"),
        ("num_hidden_layers", 10**6, "ValueError: 1,000,001 layers, and 41 tensors"),
        ("num_hidden_layers", 0.5, "TypeError: layers 0.5 is no int"),
        ("vocab_size", 10**39, "ValueError: a size of 1,000,"),
    ],
)
def test_sizes_of_no_model(folder, name, value, said):
    """Found before a model is built, which would take hours or all memory."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, name: value}))
    refused = refusal(pretrained.load, folder)
    assert refused.startswith(f"{folder / 'config.json'}: holds values that make no model.\n  found: {said}")


def test_a_family_that_is_no_text(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": {}}))
    assert "are of no known format" in refusal(pretrained.load, folder)
