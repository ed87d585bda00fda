"""Models of several parts: tables, sizes, weights and batches, each by part."""

import dataclasses
import json
import re

import numpy as np
import pytest
from flax import nnx

import suite
from suite.cli.fields import apply_flags
from suite.data.preprocessing.tokenizers import Published
from suite.errors import InputError
from suite.experiment.sections import Finetune
from suite.experiment.serialization import dump, from_json, to_json
from suite.models import deepfm, dnn, resnet, transformer, vit, wav2vec2
from suite.models.parts import Parts, prefixed
from suite.parallel.sharding import make_mesh, param_specs
from suite.training.initial_weights import check_runs
from suite.training.preprocessors import bind, fill
from suite.tree import paths
from suite.weights import pretrained
from tests import pairs
from tests.parity import golden
from tests.tiny_bert import CASE
from tests.weights.test_convert import with_tokenizer

SMALL = transformer.Config(vocab_size=20, outputs=4, layers=2, width=8, heads=2, feed_forward=16)
FAMILIES = {
    "encoder": SMALL,
    "pixels": vit.Config(height=8, width=8, channels=1, outputs=3, patch=4, layers=1, hidden=8, heads=2),
    "images": resnet.Config(channels=1, outputs=3, widths=(8, 16), blocks=(1, 1), stem_width=8),
    "sound": wav2vec2.Config(
        outputs=4,
        conv_widths=(8, 8),
        conv_kernels=(4, 2),
        conv_strides=(2, 2),
        layers=1,
        width=8,
        heads=2,
        feed_forward=16,
        position_kernel=4,
        position_groups=2,
    ),
    "clicks": deepfm.Config(rows=64, fields=2, inputs=1, width=4, hidden=(16,)),
    "plain": dnn.Config(inputs=4, hidden=(8,), outputs=2),
}
MODEL = Parts(parts=FAMILIES)


def shapes(config):
    """The model without numbers."""
    return nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0)))


def abstract(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


@pytest.fixture(scope="module")
def whole():
    """The model of all parts, without numbers."""
    return shapes(MODEL)


class Stop(Exception):
    """Ends training from within, as a kill would."""


def refusal(function, *arguments):
    with pytest.raises(InputError) as error:
        function(*arguments)
    return str(error.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_of_a_part_are_those_of_its_family(name, whole):
    alone = shapes(FAMILIES[name])
    own = abstract(alone)
    assert {path: leaf.shape for path, leaf in paths(own).items()} == {
        path: leaf.shape for path, leaf in paths(abstract(whole)[name]).items()
    }
    layers = {MODEL.layer_of(f"{name}/{path}") - FAMILIES[name].layer_of(path) for path in paths(own)}
    assert layers == {MODEL.depth - FAMILIES[name].depth}
    assert alone.__class__ is getattr(whole, name).__class__


def test_each_part_lies_on_the_mesh_as_its_family_says(whole):
    mesh = make_mesh(dataclasses.replace(pairs.experiment().parallel, data=1))
    specs = param_specs(abstract(whole), MODEL.sharding, mesh)
    for name, part in FAMILIES.items():
        alone = param_specs(abstract(shapes(part)), part.sharding, mesh)
        assert {path: specs[f"{name}/{path}"] for path in alone} == alone
    nested = Parts(parts={"both": MODEL, "other": SMALL})
    again = param_specs(abstract(shapes(nested)), nested.sharding, mesh)
    assert {path: again[f"both/{path}"] for path in specs} == specs


@pytest.mark.parametrize(
    "rule, path, inside",
    [
        (r"^head\Wkernel$", "head/kernel", True),
        (r"^head\Wkernel$", "encoder/head/kernel", False),
        (r"tokens\Wembedding$", "encoder/tokens/embedding", True),
        (r"(^|/)kernel$", "kernel", True),
        (r"[^a]\^?/x", "b/x", True),
        (r"text", "head/kernel", False),  # the part's own name is no part of the path
        (r"^(up|gate)|down$", "mlp/down", True),
        (r"^(up|gate)|down$", "mlp/up", False),
    ],
)
def test_a_rule_finds_in_a_part_what_it_finds_alone(rule, path, inside):
    assert (re.search(rule, path) is not None) == inside
    assert (re.search(prefixed(rule, "text"), f"text/{path}") is not None) == inside
    assert re.search(prefixed(rule, "text"), f"context/{path}") is None
    assert re.search(prefixed(rule, "text"), path) is None


def test_tables_heads_and_units_have_the_name_of_the_part():
    assert MODEL.tables == {"clicks/table/embedding": "clicks_ids"}
    assert MODEL.shared_by_tensor["parts.encoder.heads"] == 2
    assert "encoder/layers/{i}/mlp/up/kernel" not in {units.made[0][0] for units in MODEL.prunable}
    assert "encoder/encoder/layers/{i}/mlp/up/kernel" in {units.made[0][0] for units in MODEL.prunable}


@pytest.mark.parametrize("name", ["", "Text", "1st", "class", "train", "a/b"])
def test_names_of_parts_are_attributes(name):
    assert refusal(lambda: Parts(parts={name: SMALL})).startswith("field model.parts: ")


def test_sizes_reach_the_part_that_they_are_of():
    model = Parts(parts={"question": pairs.tower(), "answer": pairs.tower(vocab_size=9)})
    filled = fill(model, {"question.vocab_size": 7, "answer.vocab_size": 9, "outputs": 3})
    assert filled.parts["question"].vocab_size == 7 and filled.parts["answer"].vocab_size == 9
    assert filled.parts["question"].outputs == 16
    assert refusal(fill, model, {"answer.vocab_size": 8}) == (
        "field model.parts.answer.vocab_size: is 9, but the data has 8.\n  try:   --model.parts.answer.vocab_size 0"
    )
    assert 'has no part "answers"' in refusal(fill, model, {"answers.vocab_size": 8})
    assert "which has no parts" in refusal(fill, SMALL, {"answer.vocab_size": 8})


def test_an_experiment_with_mappings_survives_json():
    experiment = suite.replace(
        pairs.experiment(),
        {"checkpoint.init_from": {"answer": "runs/a"}, "pipeline.buckets": {"": (8, 16), "answer": (24,)}},
    )
    stored = json.loads(json.dumps(to_json(experiment)))
    assert stored["checkpoint"]["init_from"] == {"answer": "runs/a"}
    assert from_json(stored, allow=("tests",)) == experiment
    assert "'class'" in refusal(to_json, {"class": 1}) and "3" in refusal(to_json, {3: 1})


def test_fields_of_a_part_have_dotted_names():
    experiment = suite.replace(pairs.experiment(), {"model.parts.answer.width": 32})
    assert [part.width for part in experiment.model.parts.values()] == [16, 32]
    text = refusal(suite.replace, experiment, {"model.parts.anser.width": 32})
    assert "found: question, answer" in text and "try:   model.parts.answer.width" in text


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The whole, trained for 12 steps; and stopped after 6 of them and gone on with."""
    folder = tmp_path_factory.mktemp("parts")
    whole = suite.train(pairs.experiment(), folder / "whole")

    def stop(step, metrics):
        raise Stop

    with pytest.raises(Stop):
        suite.train(pairs.experiment(), folder / "halves", on_evaluation=stop)
    return whole, suite.resume(folder / "halves", allow=("tests",))


def leaves(run):
    return {**paths(run.variables[0]), **paths(run.variables[1])}


def test_a_resumed_run_is_bit_identical(runs):
    whole, halves = runs
    assert whole.metrics["train/steps"] == halves.metrics["train/steps"] == 12
    for path, leaf in leaves(whole).items():
        assert np.array_equal(leaf, leaves(halves)[path]), path


def test_two_preprocessors_of_a_kind_fill_two_parts(runs):
    parts = runs[0].experiment.model.parts
    assert [part.vocab_size for part in parts.values()] == [len(pairs.QUESTIONS) + 4, len(pairs.ANSWERS) + 4]
    assert sorted(path.stem for path in (runs[0].folder / "assets").glob("*.json")) == ["answers", "questions"]
    task = runs[0].experiment.task
    assert "z" in task.answers.names and "z" not in task.questions.names


def test_two_preprocessors_that_state_one_size_are_refused(runs, tmp_path):
    run = runs[0]

    def bound(folder, **changes):
        answers = dataclasses.replace(pairs.Matching().answers, part="question", **changes)
        return bind(suite.replace(pairs.experiment(), {"task.answers": answers}), folder)

    assert refusal(bound, run.folder) == (
        "field task.answers: states another question.vocab_size than task.questions.\n"
        "  found: task.questions states 12, task.answers 15\n"
        "  try:   where the model has a part for each: --task.answers.part NAME"
    )
    letters = (run.folder / "assets" / "answers.json").read_text()
    (tmp_path / "assets").mkdir()
    for name in ("answers", "questions"):
        (tmp_path / "assets" / f"{name}.json").write_text(letters)
    said = refusal(bound, tmp_path)
    assert said.startswith("field task.answers: states the size question.vocab_size, as task.questions does.\n")
    assert "--task.answers.shares True" in said
    assert bound(tmp_path, shares=True).model.parts["question"].vocab_size == 15


def test_the_second_tokenizer_of_published_weights_shares_their_table():
    assert Published(side="target").shares and not Published().shares
    stored = {"class": "suite.data.tokenizers.Published", "file": "", "source": "marian", "side": "target"}
    assert from_json(stored) == Published(source="marian", side="target")  # as version 0.1 wrote it


def test_a_column_that_the_task_does_not_name_is_refused(tmp_path):
    wrong = suite.replace(pairs.experiment(), {"task.answers.column": "anser"})
    assert refusal(suite.train, wrong, tmp_path / "run").endswith("try:   --task.answers.column answer")


def test_each_axis_is_padded_to_buckets_of_its_own(runs):
    run = runs[0]
    assert run.buckets.keys() == {"", "answer"} and run.lengths == run.buckets[""]
    assert run.buckets[""][-1] == 16 and run.buckets["answer"][-1] == 40
    names = sorted(path.name for path in (run.folder / "assets").glob("lengths-*"))
    assert names == [f"lengths-{split}{axis}.npy" for split in ("train", "validation") for axis in ("-answer", "")]
    seen, chosen = set(), {"": (8, 16), "answer": (24, 40)}
    suite.train(
        suite.replace(pairs.experiment(steps=6), {"pipeline.buckets": chosen}),
        run.folder.parent / "seen",
        on_dispatch=lambda item: seen.add((item.batch["question"].shape[2], item.batch["answer"].shape[2])),
    )
    assert {length for length, _ in seen} <= set(chosen[""])
    assert {length for _, length in seen} <= set(chosen["answer"]) and len(seen) > 1


def test_buckets_by_axis(tmp_path):
    chosen = {"": (16,), "answer": (24, 48)}
    experiment = suite.replace(pairs.experiment(steps=2, eval_every=2), {"pipeline.buckets": chosen})
    run = suite.train(experiment, tmp_path / "run")
    assert run.buckets == chosen and run.lengths == (16,)
    falling = suite.replace(experiment, {"pipeline.buckets": {"answer": (24, 8)}})
    assert refusal(suite.train, falling, tmp_path / "other").endswith("--pipeline.buckets answer=8,24")


def test_answers_do_not_depend_on_padding(runs):
    run = runs[0]
    columns = {"question": ["ab", "abcdefgh"], "answer": ["ax", "bcd" * 13]}
    together = run.predict(columns)
    alone = [run.predict({name: values[i : i + 1] for name, values in columns.items()})[0] for i in range(2)]
    for one, other in zip(together, alone, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_a_bundle_pads_the_other_axis_to_its_largest_bucket(runs, tmp_path):
    run = runs[0]
    bundle = suite.export(run.folder, tmp_path / "bundle", allow=("tests",))
    assert bundle.signature.inputs["answer"].shape == ("b", 40)
    assert bundle.signature.inputs["question"].shape == ("b", "length") and bundle.lengths == run.lengths
    columns = {"question": ["ab", "abcd"], "answer": ["ax", "bcd" * 13]}
    for ours, theirs in zip(bundle.predict(columns), run.predict(columns), strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-5)
    assert 'input "answer": is longer' in refusal(bundle.predict, {"question": ["a"], "answer": ["x" * 41]})


ONE_SHAPE = {"pipeline.buckets": {"": (16,), "answer": (40,)}}
"""Where lengths don't matter, one compiled step is enough."""


def begun(experiment, folder, shape=ONE_SHAPE):
    """A run whose weights are those it started with."""
    still = {"optim.learning_rate": 0.0, "train.steps": 1, "train.seed": 5, **shape}
    return suite.train(suite.replace(experiment, still), folder)


def test_parts_start_from_a_run_of_the_same_parts(runs, tmp_path):
    whole = runs[0]
    same = begun(suite.replace(pairs.experiment(), {"checkpoint.init_from": str(whole.folder)}), tmp_path / "same")
    assert all(np.array_equal(leaf, leaves(same)[path]) for path, leaf in leaves(whole).items())
    one = suite.replace(pairs.experiment(), {"checkpoint.init_from": {"answer": str(whole.folder)}})
    part = begun(one, tmp_path / "one")
    for path, leaf in leaves(whole).items():
        equal = np.array_equal(leaf, leaves(part)[path])
        assert equal or not path.startswith("answer/"), path
    assert not np.array_equal(
        leaves(part)["question/encoder/tokens/embedding"], leaves(whole)["question/encoder/tokens/embedding"]
    )
    again = begun(suite.resume(part.folder, allow=("tests",)).experiment, tmp_path / "again")
    assert np.array_equal(
        leaves(again)["answer/encoder/tokens/embedding"], leaves(whole)["answer/encoder/tokens/embedding"]
    )


def published(folder):
    """The questions' part is the tiny BERT, with its tokenizer."""
    source = with_tokenizer(golden.folder(CASE, folder))
    model = Parts(parts={"question": pairs.tower(pooling="cls"), "answer": pairs.tower(layers=2)})
    tokenizer = Published(column="question", part="question")
    changes = {"task.questions": tokenizer, "model": model, "checkpoint.init_from": {"question": str(source)}}
    # The tiny BERT has vectors for 12 places.
    return suite.replace(pairs.experiment(), {**changes, "pipeline.buckets": {"": (12,), "answer": (40,)}})


def test_a_part_starts_from_published_weights_and_another_from_a_run_of_its_family(tmp_path):
    alone = {"task": pairs.Alone(), "model": pairs.tower(layers=2), "train.steps": 3, "pipeline.buckets": (40,)}
    answers = suite.train(suite.replace(pairs.experiment(), alone), tmp_path / "alone")
    experiment = published(tmp_path / "bert")
    start = {**experiment.checkpoint.init_from, "answer": str(answers.folder)}
    run = begun(suite.replace(experiment, {"checkpoint.init_from": start}), tmp_path / "run", shape={})
    own = leaves(run)
    for path, leaf in leaves(answers).items():
        assert np.array_equal(own[f"answer/{path}"], leaf), path
    _, bert = pretrained.load(start["question"])
    theirs = paths(nnx.to_pure_dict(nnx.state(bert, nnx.Param)))
    assert np.array_equal(own["question/encoder/tokens/embedding"], theirs["encoder/tokens/embedding"])
    question = run.experiment.model.parts["question"]
    assert (question.width, question.vocab_size, question.outputs) == (16, 40, 16)

    written = suite.convert(run.folder, tmp_path / "out", allow=("tests",))
    assert written.format == "bert" and written.files == tuple(
        f"question/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")
    )
    assert [name.split(" ")[0] for name in written.left_out] == ["answer"]
    again, _ = pretrained.load(tmp_path / "out" / "question")
    assert again == question


def test_a_part_that_began_with_weights_outlives_them(tmp_path):
    experiment = published(tmp_path / "bert")
    stopped = suite.replace(experiment, {"train.steps": 8, "train.eval_every": 4})

    def stop(step, metrics):
        raise Stop

    with pytest.raises(Stop):
        suite.train(stopped, tmp_path / "run", on_evaluation=stop)
    (tmp_path / "bert" / "model.safetensors").unlink()
    run = suite.train(stopped, tmp_path / "run", resume=True)
    assert run.metrics["train/steps"] == 8 and run.experiment.model.parts["question"].vocab_size == 40


def test_published_weights_without_a_part_are_refused(tmp_path):
    experiment = published(tmp_path / "bert")
    whole = suite.replace(experiment, {"checkpoint.init_from": experiment.checkpoint.start("question")})
    assert refusal(suite.train, whole, tmp_path / "run").endswith("--checkpoint.init_from question=SOURCE")


@pytest.mark.parametrize(
    "start, said",
    [
        ({"anser": "x"}, '"anser" is no part of the model.\n  found: question, answer\n'),
        ({"answer": ""}, 'names no source for the part "answer".'),
    ],
)
def test_parts_that_there_are_not_are_refused(start, said, tmp_path):
    text = refusal(suite.train, suite.replace(pairs.experiment(), {"checkpoint.init_from": start}), tmp_path / "run")
    assert said in text and "try:   --checkpoint.init_from answer=" in text


def test_a_run_of_another_model_is_refused_before_anything_is_taken_over(tmp_path):
    """The family of both is named, and what fits: a part of the run, a part of the model, or runs of other recipes."""
    runs = {name: tmp_path / name.replace(".", "_") for name in ("speech.vocode", "speech.pretrain", "speech.classify")}
    for name, folder in runs.items():
        folder.mkdir()
        dump(suite.load(name), folder / "experiment.json")
    begun = lambda recipe, start: suite.replace(suite.load(recipe), {"checkpoint.init_from": start})
    for recipe, start in (
        ("speech.recognize", str(runs["speech.pretrain"])),
        ("speech.recognize", str(runs["speech.classify"])),
        ("speech.pretrain", str(runs["speech.pretrain"])),
        ("multimodal.match_sounds", {"audio": str(runs["speech.pretrain"])}),
        ("multimodal.match_sounds", {"audio": str(runs["speech.classify"])}),
    ):
        check_runs(begun(recipe, start))
    vocoder = str(runs["speech.vocode"])
    assert refusal(check_runs, begun("speech.recognize", vocoder)) == (
        f'field checkpoint.init_from: the run "{vocoder}" has a model of another kind than the recipe.\n'
        "  found: suite.models.wavenet in the run, of speech.vocode; suite.models.audio in the recipe\n"
        "  try:   a run of speech.pretrain or of speech.fsdd_pretrain or of speech.classify as "
        "--checkpoint.init_from RUN, or leave --checkpoint.init_from out"
    )
    said = refusal(check_runs, begun("multimodal.match_sounds", vocoder))
    assert "audio: suite.models.audio, text: suite.models.transformer" in said
    assert "or of speech.classify as --checkpoint.init_from audio=RUN, or leave" in said
    assert "than the part text.\n" in refusal(check_runs, begun("multimodal.match_sounds", {"text": vocoder}))
    for name in ("speech.pretrain", "speech.classify"):  # one part fits
        said = refusal(check_runs, begun("multimodal.match_sounds", str(runs[name])))
        assert said.endswith(f"try:   --checkpoint.init_from audio={runs[name]}")


def test_a_run_of_other_sizes_is_refused_with_its_sizes(runs, tmp_path):
    sizes = {"model.parts.answer.width": 24, "checkpoint.init_from": {"answer": str(runs[0].folder)}}
    said = refusal(suite.train, suite.replace(pairs.experiment(), sizes), tmp_path / "run")
    held = runs[0].experiment.model.parts["answer"].width
    assert said.startswith("field checkpoint.init_from: ") and "was written by another model" in said
    assert said.endswith(f"try:   --model.parts.answer.width {held}")


def changed(run, other):
    """Paths of parameters of ``other`` that differ in ``run``."""
    return {path for path, leaf in leaves(other).items() if not np.array_equal(leaf, leaves(run)[path])}


def test_a_part_can_be_frozen(runs, tmp_path):
    first = runs[0]
    changes = {
        "checkpoint.init_from": str(first.folder),
        "optim.frozen": (r"^question/",),
        "train.steps": 3,
        **ONE_SHAPE,
    }
    run = suite.train(suite.replace(pairs.experiment(), changes), tmp_path / "run")
    moved = changed(run, first)
    assert moved and all(path.startswith("answer/") for path in moved)


def test_low_rank_additions_and_trained_patterns_name_parts(runs, tmp_path):
    first = runs[0]
    finetune = Finetune(kind="lora", rank=2, targets=(r"^answer/.*(query|value)$",), trained=(r"^question/head",))
    changes = {"checkpoint.init_from": str(first.folder), "finetune": finetune, "train.steps": 3, **ONE_SHAPE}
    experiment = suite.replace(pairs.experiment(), changes)
    run = suite.train(experiment, tmp_path / "run")
    added = {path for path in leaves(run) if "/addition/" in path}
    assert len(added) == 2 * 2 * 2 and all(path.startswith("answer/") for path in added)
    assert changed(run, first) == {path for path in leaves(first) if path.startswith("question/head")}
    default = suite.replace(experiment, {"finetune": Finetune(kind="head")})
    assert "--finetune.trained /head" in refusal(suite.train, default, tmp_path / "other")


def test_layers_of_parts_are_counted_from_their_heads():
    model = pairs.experiment().model
    assert model.layer_of("question/head/kernel") == model.layer_of("answer/head/kernel") == model.depth == 3
    assert model.layer_of("question/encoder/tokens/embedding") == 1
    assert model.layer_of("answer/encoder/tokens/embedding") == 0


def test_units_are_taken_out_of_every_part(runs, tmp_path):
    method = suite.Prune(0.5)
    assert refusal(suite.compress, runs[0], method, tmp_path / "taught").endswith("try:   --distill.logits 0")
    alone = suite.replace(method.start(runs[0]), {"compression.distill.logits": 0.0, "train.steps": 1, **ONE_SHAPE})
    run = suite.compress(runs[0], method, tmp_path / "small", experiment=alone)
    assert [part.feed_forward for part in run.experiment.model.parts.values()] == [16, 16]
    assert len(run.predict({"question": ["a"], "answer": ["a"]})) == 1


def test_a_plan_knows_parts_and_axes():
    report = suite.plan(pairs.experiment(), "")
    assert report["parameters"] > 0


def test_flags_name_parts_and_axes():
    flags = ["--checkpoint.init_from", "question=runs/a", "answer=b/c", "--model.parts.answer.width", "32"]
    changed = apply_flags(
        pairs.experiment(), [*flags, "--pipeline.buckets", "8", "16", "answer=24,40"], "suite train x"
    )
    assert changed.checkpoint.init_from == {"question": "runs/a", "answer": "b/c"}
    assert changed.pipeline.buckets == {"": (8, 16), "answer": (24, 40)}
    assert [part.width for part in changed.model.parts.values()] == [16, 32]
    assert apply_flags(changed, ["--train.steps", "3"], "suite train x").checkpoint == changed.checkpoint
    single = apply_flags(changed, ["--checkpoint.init_from", "runs/a"], "suite train x")
    assert single.checkpoint.init_from == "runs/a"
    assert apply_flags(changed, ["--checkpoint.init_from="], "suite train x").checkpoint.init_from == ""


def test_help_shows_how_parts_are_named(capsys):
    with pytest.raises(SystemExit) as stop:
        apply_flags(pairs.experiment(), ["--help"], "suite train x")
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--checkpoint.init_from SOURCE|[PART=SOURCE ...]" in printed
    assert "--pipeline.buckets [INT ...]|[AXIS=INT,INT ...]" in printed


def test_what_names_no_part_is_refused():
    flags = ["--checkpoint.init_from", "answer=a", "b"]
    said = refusal(apply_flags, pairs.experiment(), flags, "suite train x")
    assert said.startswith("flag --checkpoint.init_from: takes one SOURCE, or PART=SOURCE once for each part.")
