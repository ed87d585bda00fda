"""Export: each task's model as a bundle that answers as its run does; what is refused; what the card says."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import suite
from suite.contracts.signature import file_to_json
from suite.data.sources.datasets import Table
from suite.errors import InputError, RunError
from suite.exporting import agreement, asked, exporting, tracing
from suite.surgery import lora
from tests import toy
from tests.exporting.test_same_bytes import tell_nothing
from tests.untrained import TASKS, adapted, copied, images, resealed, untrained

SLOW = ("patches", "llamas", "keywords", "waveforms", "whispers")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in TASKS]
)
def test_a_bundle_answers_as_its_run(name, exported):
    """Export compares outputs itself; here the answers that a user would see. Some compute in bfloat16: in the same
    forms, the same numbers. No file tells where it was made."""
    run, bundle = exported(name)
    tell_nothing(bundle.folder, run.folder, run.folder.parent)
    run = run.portable
    _, asked = exporting.held_back(run)
    asked = {name: values[: exporting.ROWS] for name, values in asked.items()}
    answers = bundle.predict(asked)
    assert agreement.alike(answers, run.predict(asked)) and len(answers) == len(next(iter(asked.values()))) > 0
    assert sorted(path.name for path in bundle.folder.parent.glob("*bundle*")) == ["bundle"]
    assert bundle.manifest.platforms == ("cpu", "cuda", "tpu")
    assert bundle.lengths == (0,) or bundle.lengths[-1] >= bundle.codec.longest > bundle.lengths[-1] - 8
    for each in bundle.codec.inputs:
        assert each.description and (each.name in asked or not each.required)
    schema = bundle.codec.answer_schema
    for answer in answers:
        json.dumps(answer, default=file_to_json)
        assert answer.keys() == schema["properties"].keys() == set(schema["required"])


@pytest.mark.parametrize(
    ("buckets", "lengths"), [((6, 12), (6, 12)), ((6,), (6, 16)), ((6, 14), (6, 14)), ((6, 40), (6, 16))]
)
def test_the_longest_request_has_a_program(buckets, lengths, tmp_path):
    """Rows of the toy have 12 digits at the most; what training didn't see is padded to eights, as in a run."""
    run = untrained(suite.replace(toy.experiment(), {"pipeline.buckets": buckets}), tmp_path)
    assert asked.padded_lengths(run, run.codec) == lengths


def test_matrices_that_are_always_rounded_are_rounded_once(tmp_path):
    """Half the bytes, and the very numbers of the run: what is no operand in bfloat16 keeps its format."""
    run = untrained(suite.replace(images(tmp_path), {"precision.compute": "bfloat16"}), tmp_path / "run")
    bundle = suite.export(run, tmp_path / "bundle")
    formats = {name.rpartition("/")[2]: str(value.dtype) for name, value in bundle.weights.items()}
    assert formats == {"kernel": "bfloat16", "bias": "float32"}
    _, asked = exporting.held_back(run)
    rows = run.experiment.task.codec.encode(asked)
    ours, theirs = bundle.programs["predict"].outputs(rows, 0), run.outputs(rows, 0, 0)
    np.testing.assert_array_equal(ours["logits"], theirs["logits"])


def test_low_rank_additions_are_folded(tmp_path):
    run = untrained(adapted(tmp_path), tmp_path / "run")
    params, model_state = run.variables
    run.__dict__["_weights"] = (lora.with_additions(params, jax.tree.map(lambda x: x + 0.3, params)), model_state)
    bundle = suite.export(run, tmp_path / "bundle")
    assert bundle.weights and not any("addition" in name for name in bundle.weights)
    assert json.loads((bundle.folder / "experiment.json").read_text())["finetune"]["kind"] == "full"


@pytest.mark.parametrize("changes", [{"finetune.kind": "adapters"}, {"precision.compute": "bfloat16"}])
def test_what_cannot_be_folded_stays(changes, tmp_path):
    """Adapters, which are not linear; and additions where folding would round other numbers than the run does."""
    run = untrained(suite.replace(adapted(tmp_path), changes), tmp_path / "run")
    served, weights = asked.served(run)
    assert served is run and any("addition" in name for name in weights)


def test_without_its_data_a_run_is_not_exported(tmp_path):
    run = untrained(TASKS["clicks"](tmp_path), tmp_path / "run")
    (tmp_path / "clicks.csv").unlink()
    with pytest.raises(InputError) as error:
        suite.export(run, tmp_path / "bundle")
    assert str(error.value) == (
        "held-back records: are what a bundle is checked with, and cannot be read.\n"
        f"  found: {tmp_path}/clicks.csv: no such file or folder\n  try:   put the run's data back where they were"
    )
    assert not (tmp_path / "bundle").exists()


def test_a_test_split_without_labels_is_no_metric(tmp_path):
    """As GLUE's: none of its labels is a class, so the check and the metrics are those of validation."""
    (tmp_path / "data").mkdir()
    for split, labels in (("train", ("no", "yes")), ("validation", ("no", "yes")), ("test", ("?", "?"))):
        rows = [f"{'good' if i % 2 else 'bad'} film {i % 7},{labels[i % 2]}" for i in range(40)]
        (tmp_path / "data" / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    experiment = suite.replace(
        TASKS["texts"](tmp_path),
        {"task.data": Table(path=str(tmp_path / "data")), "task.max_length": 8, "pipeline.buckets": (8,)},
    )
    experiment = suite.replace(experiment, {"goal": None, "train.best": "macro_f1"})
    bundle = suite.export(untrained(experiment, tmp_path / "run"), tmp_path / "bundle", platforms=("cpu",))
    assert bundle.manifest.made["checked"] == "40 records of the validation split"
    assert set(bundle.metrics) >= {"validation/accuracy", "validation/loss"}
    assert next(iter(bundle.metrics)) == "validation/macro_f1", "the page names the one that chose the checkpoint"
    assert "| validation/accuracy | 0." in (bundle.folder / "model_card.md").read_text()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fickle(toy.Digits):
    """Reads other digits each time."""

    def encode(self, columns):
        drawn = np.random.default_rng().integers(0, 4, len(columns[self.digits]))
        rows = [[*row[:-1], more] for row, more in zip(columns[self.digits], drawn, strict=True)]
        return super().encode({self.digits: rows})


@dataclasses.dataclass(frozen=True, kw_only=True)
class FickleParity(toy.Parity):
    """Parity, asked by a codec that cannot be relied on."""

    @property
    def codec(self):
        return Fickle(digits=self.digits)


def test_an_export_that_differs_fails_and_leaves_nothing(tmp_path):
    fickle = suite.replace(toy.experiment(), {"task": FickleParity()})
    with pytest.raises(RunError, match="the bundle does not answer as the run does: logits differs by"):
        suite.export(untrained(fickle, tmp_path / "run"), tmp_path / "bundle", allow=("tests",))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_weights_in_a_program_are_noticed(tmp_path):
    """A table that is no variable of the model would be stored once for each length."""
    table = np.random.default_rng(0).standard_normal((1100, 1000)).astype(np.float32)

    class Constant(toy.Parity):
        def predict(self, model, batch, reference=None):
            return {"logits": jnp.asarray(table)[batch["digits"], :2].sum(1)}

    run = untrained(toy.experiment(), tmp_path / "run")
    weights, inputs = (
        tracing.weights_of(*run.variables),
        tracing.inputs_of(run.experiment.task.codec.encode({"digits": [[1, 2]]})),
    )
    with pytest.raises(RunError, match="the program for rows of length 6 holds 1,100,000 numbers"):
        tracing.trace(run.graph, Constant().predict, weights, inputs, 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "../up"}, '--name "../up": must be letters, digits, points, dashes and underscores, at most 64.'),
        (
            {"platforms": ("cpu", "abacus")},
            "flag --platforms: abacus is no platform.\n  try:   --platforms cpu cuda tpu",
        ),
        (
            {"platforms": ("tpu",)},
            "flag --platforms: must have cpu, since a bundle is checked on this machine.\n  found: tpu\n"
            "  try:   --platforms cpu tpu",
        ),
        ({"format": "onyx"}, '--format "onyx": is none.\n  found: bundle, huggingface, onnx'),
    ],
)
def test_what_is_refused(options, said, tmp_path):
    run = untrained(toy.experiment(), tmp_path / "run")
    with pytest.raises(InputError) as error:
        suite.export(run, tmp_path / "bundle", allow=("tests",), **options)
    assert str(error.value) == said and not (tmp_path / "bundle").exists()


def test_the_command(tmp_path, command, refused):
    """From training to an answer, and what was there is left alone."""
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    command("train", "vision.digits_dnn", "--smoke", "--run-dir", run)
    printed = command(
        "export", run, "--to", bundle, "--platforms", "cpu", "tpu", "--name", "digits", "--licence", "MIT"
    )
    opened = suite.open(bundle)
    first, second, third, last = printed.splitlines()
    assert first.startswith(f"digits, version {opened.version}: 6 files, ") and second == "programs for cpu, tpu"
    assert third == "answers 64 records of the test split as run does" and last == str(bundle)
    found = suite.evaluate(run).metrics
    lines = [f"{name:32} {value:.6g}" for name, value in found.items()]
    assert command("evaluate", bundle).splitlines()[: len(lines)] == lines
    interval = opened.metrics["test/accuracy"]
    assert interval["low"] < interval["value"] < interval["high"]
    assert interval["value"] == pytest.approx(found["test/accuracy"])
    assert refused("export", run, "--to", bundle) == (
        f'suite export: --to "{bundle}": is there already.\n  try:   suite export {run} --to {bundle}-2\n'
    )
    assert refused("export", run) == (
        f"suite export: flag --to: is missing.\n  try:   suite export {run} --to bundles/mine\n"
    )
    assert refused("export", run, "--to", "x", "--platforms", "abacus") == (
        'suite export: flag --platforms: "abacus" is unknown.\n  found: cpu, cuda, tpu\n'
        f"  try:   suite export {run} --to x --platforms cpu cuda\n"
    )
    card = (bundle / "model_card.md").read_text()
    for text in (
        "# digits",
        "Classes, 10: 0, 1, 2",
        "## Licence\n\nMIT",
        "| test/accuracy | 0.",
        "| train | 1,",
        "Not stated by those who made it",
        "suite train vision.digits_dnn",
        "- trained in ",
    ):
        assert text in card


def test_a_bundle_is_measured(exported):
    """By its own outputs: they tell the BLEU of translations, and not how likely a text is that nobody asks for."""
    run, bundle = exported("translations")
    found = suite.evaluate(bundle.folder, "test", exporting.ROWS, data=run.experiment.task.data.path).metrics
    assert found.keys() == {"test/bleu", "test/chrf"} < bundle.metrics.keys()  # those that the run had
    assert all(about["value"] == pytest.approx(bundle.metrics[name]["value"]) for name, about in found.items())
    run, bundle = exported("continuations")
    folder = bundle.folder
    with pytest.raises(InputError) as error:
        suite.evaluate(folder, "validation", data=run.experiment.task.data.path)
    assert str(error.value) == (
        f'bundle "{folder}": answers requests, and its task is scored by something else.\n'
        "  found: tokens, characters, bytes\n  try:   suite evaluate RUN"
    )


def test_refreshed(exported, tmp_path, command):
    """Programs that nobody can read any more are made again, from what else is in the bundle."""
    folder = copied(exported("images")[1], tmp_path / "bundle")
    before = suite.open(folder)
    images = {"image": [np.full((8, 8, 1), 17 * i, np.uint8) for i in range(5)]}
    answers = before.predict(images)
    (folder / "program" / "0.stablehlo").write_bytes(b"of a JAX of long ago")
    resealed(folder)
    with pytest.raises(InputError, match="cannot be read"):
        suite.open(folder)
    printed = command("export", "--refresh", folder, "--platforms", "cpu")
    again = suite.open(folder)
    assert again.version in printed and again.version != before.version and again.manifest.platforms == ("cpu",)
    assert "refreshed" in again.manifest.made and agreement.alike(again.predict(images), answers)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_refreshed_in_place(exported, tmp_path, monkeypatch, refused):
    """By a link, from within, and after a refresh that was killed."""
    from suite.exporting.refreshing import refresh

    folder = copied(exported("images")[1], tmp_path / "kept" / "bundle")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "kept" / "replaced-bundle" / "program").mkdir(parents=True)
    (tmp_path / "kept" / "replaced-bundle" / "program" / "0.stablehlo").write_bytes(b"of one that was killed")
    before = suite.open(folder).version
    first = refresh(tmp_path / "link", platforms=("cpu",))
    assert first.version != before and suite.open(tmp_path / "link").version == first.version
    assert (tmp_path / "link").is_symlink() and [path.name for path in (tmp_path / "kept").iterdir()] == ["bundle"]
    monkeypatch.chdir(folder)
    second = refresh(".", platforms=("cpu",))
    assert second.folder == folder and suite.open(folder).version == second.version
    assert sorted(path.name for path in tmp_path.rglob("*") if "-bundle" in path.name) == []
    for flag, value in (("name", "x"), ("licence", "x"), ("format", "huggingface")):
        assert refused("export", "--refresh", folder, f"--{flag}", value) == (
            f"suite export: flag --{flag}: says what a refreshed bundle keeps as it is.\n  found: {value}\n"
            f"  try:   suite export --refresh {folder}\n"
        )


@pytest.mark.parametrize(
    ("name", "folders", "called"),
    [
        ("", ("bundles/reviews", "runs/x"), "reviews"),
        ("", ("out/bundle", "runs/reviews"), "reviews"),
        ("", ("Bundle", "runs/2026-11-29-text-classify"), "classify"),
        ("", ("bundles/my reviews (new)", "runs/x"), "my-reviews-new"),
        ("", ("bundle", "run"), "classify"),
        ("mood", ("bundles/reviews", "runs/x"), "mood"),
    ],
)
def test_a_model_is_called_after_its_folder(name, folders, called):
    recipe = suite.load("text.classify")
    assert exporting.named(recipe, name, [Path(folder) for folder in folders]) == called
