"""Published weights, in and out: what is read, what is refused and how that reads."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors.numpy import load_file, save_file

import suite
from suite import pretrained, published
from suite.config import Parallel, replace
from suite.correspondence import Filling
from suite.data.tokenizers import Published as PublishedTokenizer
from suite.errors import InputError, RunError
from suite.imports import Map, linear
from suite.models import dnn, transformer
from suite.sharding import make_mesh
from suite.tree import paths
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


def same(model, other):
    mine, yours = (paths(nnx.to_pure_dict(nnx.state(m, nnx.Param))) for m in (model, other))
    return mine.keys() == yours.keys() and all(np.array_equal(mine[name], yours[name]) for name in mine)


# What is read.


def test_tensors_are_float32_whatever_they_are_published_in(folder):
    _, model = pretrained.load(folder)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        narrow = {name: value.astype(dtype) for name, value in golden.weights(CASE.shapes).items()}
        rewritten(folder, lambda _, narrow=narrow: narrow)
        _, found = pretrained.load(folder)
        wanted = narrow["bert.encoder.layer.0.attention.self.query.weight"].astype(np.float32).T
        kernel = found.encoder.layers[0].attention.query.kernel[...]
        assert kernel.dtype == jnp.float32
        np.testing.assert_array_equal(kernel, wanted)
        assert not same(model, found)


def test_npz_and_a_single_file(folder, tmp_path):
    config, model = pretrained.load(folder)
    other = tmp_path / "npz"
    other.mkdir()
    shutil.copyfile(folder / "config.json", other / "config.json")
    np.savez(other / "weights.npz", **golden.weights(CASE.shapes))
    for source in (other, other / "weights.npz", folder / "model.safetensors", str(folder)):
        found, again = pretrained.load(source)
        assert found == config
        assert same(model, again)


def shards(folder):
    """The same weights in two files with an index."""
    weights = golden.weights(CASE.shapes)
    names, half = list(weights), len(weights) // 2
    places = {}
    for number, part in enumerate((names[:half], names[half:]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


def test_shards(folder):
    _, model = pretrained.load(folder)
    places = shards(folder)
    assert same(model, pretrained.load(folder)[1])
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": lack shards that model.safetensors.index.json names.\n'
        "  found: missing model-00002-of-00002.safetensors\n"
        "  try:   fetch them again"
    )
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {**places, "x": "../../secret.safetensors"}}))
    assert refusal(pretrained.load, folder) == (
        f"{index}: names files outside its folder.\n  found: ../../secret.safetensors"
    )
    first = {name: file for name, file in places.items() if file.startswith("model-00001")}
    index.write_text(json.dumps({"weight_map": {**first, "x": "model-00001-of-00002.safetensors"}}))
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": lack tensors that model.safetensors.index.json names.\n'
        "  found: x in model-00001-of-00002.safetensors\n"
        "  try:   fetch them again"
    )


def test_older_names_and_tensors_of_other_heads(folder):
    """As bert-base-uncased is published: gamma and beta, a head of masked words, position ids."""
    _, model = pretrained.load(folder)

    def older(weights):
        names = {name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
                 for name in weights}  # fmt: skip
        more = {"cls.predictions.bias": np.zeros(40, np.float32), "bert.embeddings.position_ids": np.arange(12)}
        return {**{names[name]: value for name, value in weights.items()}, **more}

    assert same(model, pretrained.load(rewritten(folder, older))[1])


def test_changes_of_the_config(folder):
    config, model = pretrained.load(folder, pooling="mean")
    assert config.pooling == "mean"
    assert model.pooler is None and model.head is not None


# Filling a model that is there.


def test_fill_keeps_places_and_frees_what_it_replaces(folder):
    config, model = pretrained.load(folder)
    params, rest = variables(config)
    mesh = make_mesh(Parallel())
    where = NamedSharding(mesh, P())
    params = jax.tree.map(lambda leaf: jax.device_put(leaf, where), params)
    before = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    others = sum(array.nbytes for array in jax.live_arrays()) - before
    most, place = [], jax.device_put

    def watched(array, *args, **options):
        most.append(sum(leaf.nbytes for leaf in jax.live_arrays()) + array.nbytes)
        return place(array, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_put", watched)
        filled, _ = pretrained.fill(config, params, rest, folder)
    assert len(most) == len(CASE.shapes)
    assert max(most) <= others + before  # never more than the one model
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    assert all(leaf.sharding == where and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(filled))
    wanted = paths(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    for name, leaf in paths(filled).items():
        np.testing.assert_array_equal(leaf, wanted[name])


def test_a_new_head_and_additions_keep_their_values(folder, caplog):
    published_config, _ = pretrained.load(folder)
    config = transformer.Config(outputs=5, pooling="cls", dropout=0.3).adopt(published_config)
    params, rest = variables(config)
    head = np.asarray(params["head"]["kernel"])
    params["encoder"]["layers"][0]["attention"]["query"]["addition"] = {"a": jnp.ones((16, 2))}
    filled, _ = pretrained.fill(config, params, rest, folder)
    np.testing.assert_array_equal(filled["head"]["kernel"], head)
    assert bool((filled["encoder"]["layers"][0]["attention"]["query"]["addition"]["a"] == 1).all())
    wanted = golden.draw("bert.encoder.layer.0.attention.self.query.weight", (16, 16)).T
    np.testing.assert_array_equal(filled["encoder"]["layers"][0]["attention"]["query"]["kernel"], wanted)
    assert caplog.messages == [f"{folder}: initial values for head/bias, head/kernel"]


def test_a_headless_model_gets_a_head(tmp_path, caplog):
    case = golden.load("distilbert")
    source = golden.folder(case, tmp_path / "distilbert")
    theirs, _ = pretrained.load(source)
    config = transformer.Config(outputs=2, pooling="cls").adopt(theirs)
    filled, _ = pretrained.fill(config, *variables(config), source)
    assert filled["pooler"]["kernel"].shape == (16, 16)
    assert caplog.messages == [f"{source}: initial values for head/bias, head/kernel, pooler/bias, pooler/kernel"]


# What is refused.


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
    said = refused("train", "text.classify", "--smoke", "--data", data, "--checkpoint.init_from", source,
                   "--run-dir", tmp_path / "run")  # fmt: skip
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
    'where PyTorch is: python -c "import sys, torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() '
    'for k, v in torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])" pytorch_model.bin model.safetensors'
)


def test_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = (
        f'weights "{folder / "pytorch_model.bin"}": are a pickle, and reading one runs the code in it: refused.\n'
        f"  try:   {CONVERTER}"
    )
    assert refusal(pretrained.load, folder) == said
    assert refusal(pretrained.load, folder / "pytorch_model.bin") == said
    (folder / "pytorch_model.bin").unlink()
    assert refusal(pretrained.load, folder) == (
        f'weights "{folder}": have no model.safetensors, no model.safetensors.index.json and no .npz file.\n'
        "  found: config.json\n"
        "  try:   another revision or repository; those that hold pickles alone are refused"
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
    (folder / "config.json").write_text(json.dumps({**CASE.config, "position_embedding_type": "relative_key"}))
    assert refusal(pretrained.load, folder) == (
        'config.json, position_embedding_type: "relative_key" is not there.\n  try:   "absolute"'
    )


def test_a_wrong_shape(folder):
    wider = {**CASE.config, "hidden_size": 20}
    (folder / "config.json").write_text(json.dumps(wider))
    said = refusal(pretrained.load, folder)
    assert "bert.embeddings.word_embeddings.weight (40, 16) gives (40, 16), the model has encoder/tokens/embedding " \
           "(40, 20)" in said  # fmt: skip
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
    params, rest = variables(config)
    rewritten(folder, lambda weights: {**weights, "extra": np.zeros(1, np.float32)})
    refusal(pretrained.fill, config, params, rest, folder)
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


TOY = Map(
    rules=(*linear("in", "layers/0"), *linear("out", "layers/1")),
    config=lambda config: dnn.Config(inputs=3, hidden=(3,), outputs=3),
    publish=lambda config: {},
    tied={"again.weight": "in.weight"},
)


def toy_weights(**more):
    names = ("in.weight", "in.bias", "out.weight", "out.bias")
    shapes = {name: (3, 3) if name.endswith("weight") else (3,) for name in names}
    tensors = golden.weights(shapes) | more
    readers = {name: lambda value=value: value for name, value in tensors.items() if value is not None}
    return published.Published(Path("toy"), {}, readers)


def filled_toy(weights):
    config = TOY.config({})
    _, params, rest = pretrained.abstract(config)
    return paths(Filling(TOY, config, weights, exact=True)(params, rest)[0])


def test_a_tensor_that_repeats_another():
    """An output head tied to the embedding may be there, be absent, or stand for both; but it must be the same."""
    first = golden.draw("in.weight", (3, 3))
    for weights in (toy_weights(), toy_weights(**{"again.weight": first}),
                    toy_weights(**{"again.weight": first, "in.weight": None})):  # fmt: skip
        np.testing.assert_array_equal(filled_toy(weights)["layers/0/kernel"], first.T)
    assert refusal(filled_toy, toy_weights(**{"again.weight": first + 1})) == (
        'weights "toy": don\'t fit suite.models.dnn.\n'
        "  found: unused: again.weight (differs from in.weight, with which the model shares it)\n"
        "  try:   tensors and config.json of one and the same model"
    )


def test_a_table_with_two_rules_for_one_name(monkeypatch):
    monkeypatch.setattr("tests.test_pretrained.TOY", dataclasses.replace(TOY, rules=(*TOY.rules, *linear("in", "x"))))
    assert "ambiguous: in.bias (fits in.bias, in.bias), in.weight (fits in.weight, in.weight)" in refusal(
        filled_toy, toy_weights()
    )


def test_tensors_go_to_their_shards(child, folder):
    """On two devices that share the parameters, each gets its half."""
    child(
        f"""
import jax, numpy as np
from flax import nnx
from suite import pretrained, published, sharding
from suite.config import Parallel
from suite.tree import map_paths, paths
config = pretrained.formats()["bert"].config(published.open({str(folder)!r}).config)
_, params, rest = nnx.split(config.build(rngs=nnx.Rngs(0)), nnx.Param, ...)
params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
mesh = sharding.make_mesh(Parallel(fsdp=2))
specs = sharding.param_specs(params, config.sharding, mesh)
params = map_paths(lambda path, leaf: jax.device_put(leaf, jax.NamedSharding(mesh, specs[path])), params)
before = {{path: leaf.sharding for path, leaf in paths(params).items()}}
filled, _ = pretrained.fill(config, params, rest, {str(folder)!r})
assert {{path: leaf.sharding for path, leaf in paths(filled).items()}} == before
kernel = filled["encoder"]["layers"][0]["attention"]["query"]["kernel"]
assert [shard.data.shape for shard in kernel.addressable_shards] == [(8, 16), (8, 16)]
_, model = pretrained.load({str(folder)!r})
np.testing.assert_array_equal(kernel, model.encoder.layers[0].attention.query.kernel[...])
""",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )


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
        "repository": "google-bert/bert-tiny", "revision": "abc123", "local_files_only": True,
        "allow_patterns": ["*.json", "*.safetensors", "*.npz", "*.txt", "*.model"], "ignore_patterns": ["*/*"],
    }  # fmt: skip


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
    said = refused("train", "text.synthetic_sentiment", "--smoke", "--offline", "--checkpoint.init_from",
                   "nobody/nothing", "--run-dir", tmp_path / "run")  # fmt: skip
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


# From published weights to a run, and back.


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "was", "good", "bad", "fine", "dull")


def with_tokenizer(folder):
    (folder / "vocab.txt").write_text("\n".join([*WORDS, *(f"w{i}" for i in range(40 - len(WORDS)))]) + "\n")
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """(run, source) of a fine-tuning of the tiny BERT on two classes; the source is gone afterwards."""
    home = tmp_path_factory.mktemp("tuned")
    source = with_tokenizer(golden.folder(CASE, home / "bert"))
    words = ("bad,no", "dull,no", "good,yes", "fine,yes")
    (home / "reviews.csv").write_text("text,label\n" + "\n".join(f"the film was {words[i % 4]}" for i in range(120)))
    experiment = replace(suite.load("text.classify", smoke=True), {
        "task.data.path": str(home / "reviews.csv"), "task.tokenizer": PublishedTokenizer(), "task.max_length": 10,
        "task.token_dropout": 0.0, "model.pooling": "cls", "model.vocab_size": 0, "checkpoint.init_from": str(source),
    })  # fmt: skip
    run = suite.train(experiment, home / "run")
    shutil.rmtree(source)
    return run


def test_a_run_takes_its_sizes_from_the_weights(tuned):
    model = suite.open(tuned.folder).experiment.model
    assert (model.width, model.layers, model.vocab_size, model.outputs) == (16, 2, 40, 2)
    assert (model.pooling, model.dropout, model.epsilon) == ("cls", 0.2, 1e-12)
    tokens = np.asarray(tuned.model.encoder.tokens.embedding[...])
    assert np.abs(tokens - golden.draw("bert.embeddings.word_embeddings.weight", (40, 16))).max() < 0.05


def test_a_run_outlives_the_weights_it_began_with(tuned):
    more = suite.resume(tuned.folder)
    assert more.folder == tuned.folder
    assert len(tuned.predict(["the film was good"])) == 1


def test_a_run_becomes_a_published_folder(tuned, command, tmp_path):
    out = tmp_path / "out"
    printed = command("convert", tuned.folder, "--to", out)
    assert printed == (
        f"bert: 41 tensors, {sum(leaf.size for leaf in jax.tree.leaves(tuned._weights[0])):,} values\n"
        f"files: config.json, model.safetensors, tokenizer.json\n{out}\n"
    )
    about = json.loads((out / "config.json").read_text())
    assert about["architectures"] == ["BertForSequenceClassification"]
    assert about["id2label"] == {"0": "no", "1": "yes"}
    config, model = pretrained.load(out)
    assert config == tuned.experiment.model
    encoded = tuned.experiment.task.encode({"text": ["the film was good", "dull"]})["tokens"]
    tokens, mask = encoded.padded(8)
    made = tuned.model(jnp.asarray(tokens), jnp.asarray(mask))
    np.testing.assert_allclose(model(jnp.asarray(tokens), jnp.asarray(mask)), made, atol=2e-6)


@pytest.mark.peers
def test_transformers_takes_a_converted_run(tuned, tmp_path):
    golden.mend_torch()
    import torch
    import transformers

    suite.convert(tuned.folder, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    texts = ["the film was good", "dull"]
    with torch.no_grad():
        probabilities = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.softmax(-1).numpy()
    for answer, row in zip(tuned.predict(texts), probabilities, strict=True):
        best = int(row.argmax())
        assert answer["label"] == model.config.id2label[best]
        assert abs(answer["probability"] - row[best]) < 1e-5


def test_a_model_that_no_library_has(folder, tmp_path):
    config = transformer.Config(vocab_size=9, outputs=2, layers=1, width=8, heads=2)
    said = refusal(pretrained.save, config, *variables(config), tmp_path / "out")
    assert said == (
        "model of suite.models.transformer: fits none of its published formats.\n"
        "  found: bert: the model has norm pre, not post, embedding_norm False, not True, pooling mean, not cls, "
        "token_types 0. roberta: the model has norm pre, not post, embedding_norm False, not True, pooling mean, "
        "not cls, token_types 0. distilbert: the model has norm pre, not post, embedding_norm False, not True, "
        "pooler tanh, not relu, epsilon 1e-06, not 1e-12, pooling mean, not cls."
    )
    assert not (tmp_path / "out").exists()


def test_convert_rewrites_a_published_folder(folder, command, tmp_path):
    with_tokenizer(folder)
    rewritten(folder, lambda weights: {**weights, "bert.embeddings.position_ids": np.arange(12)})
    out = tmp_path / "out"
    printed = command("convert", folder, "--to", out)
    count = sum(int(np.prod(shape)) for shape in CASE.shapes.values())
    assert printed == (
        f"bert: {len(CASE.shapes)} tensors, {count:,} values\n"
        "files: config.json, model.safetensors, vocab.txt\n"
        f"left out: bert.embeddings.position_ids\n{out}\n"
    )
    written = load_file(out / "model.safetensors")
    assert written.keys() == CASE.shapes.keys()
    for name, value in golden.weights(CASE.shapes).items():
        np.testing.assert_array_equal(written[name], value)
    about = json.loads((out / "config.json").read_text())
    assert all(about[key] == value for key, value in CASE.config.items() if key != "dtype")


def test_convert_leaves_a_full_folder_alone(folder, refused, tmp_path):
    assert refused("convert", folder, "--to", folder) == (
        f'suite convert: --to "{folder}": is there and not empty.\n  try:   --to NEW_FOLDER\n'
    )
    assert refused("convert", folder) == (
        "suite convert: flag --to: is missing.\n  try:   suite convert RUN --to FOLDER\n"
    )


def test_convert_notices_a_tensor_that_changed(folder, tmp_path, monkeypatch):
    write = published.write

    def spoiled(target, config, arrays):
        write(target, config, lambda: ((name, value + (name == "classifier.bias")) for name, value in arrays()))

    monkeypatch.setattr(published, "write", spoiled)
    with pytest.raises(RunError, match=r"written tensors differ from those read: classifier\.bias"):
        pretrained.rewrite(folder, tmp_path / "out")
