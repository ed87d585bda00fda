"""Image generation: requests, seeds by row, what a measured split says, its features and its baseline, and served
pictures, which are those of the run."""

import base64
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import suite
from suite.cli import app
from suite.contracts.signature import File
from suite.data.sources.datasets import Digits
from suite.decoding.flows import Edm
from suite.errors import InputError
from suite.models import dit, resnet
from suite.reporting.drawings import drawn
from suite.runs.run import open as open_run
from suite.tasks.vision.conditional_generation import _nearest
from suite.tasks.vision.generation import ImageGeneration
from suite.tasks.vision.picture_features import _coloured, features_of
from suite.workflow.folders import predict_each_input, predict_input
from suite.workflow.predict_file import predict_file
from tests.serving.asking import Serving
from tests.untrained import untrained

ASKED = {"label": ["3", "7", None, "3"], "steps": [2, 3, 1, 2], "guidance": [1.5, 1.0, 4.0, 1.5]}


def experiment(**changes):
    """Digits; ``changes`` by the names of fields."""
    network = {"model.widths": (8, 16), "model.patch": 1, "model.embedding": 16}
    sizes = {
        **({} if "model" in changes else network),
        "task.data": Digits(),
        "task.pictures": 30,
        "task.steps": 2,
        "train.eval_batch_size": 16,
    }
    return suite.replace(suite.load("vision.generate", smoke=True), sizes | changes)


def moved(run):
    """With no parameter at zero, where a fresh model predicts nothing."""
    params, rest = run._weights
    keys = iter(jax.random.split(jax.random.key(0), 500))
    run.__dict__["_weights"] = jax.tree.map(lambda a: a + 0.15 * jax.random.normal(next(keys), a.shape), params), rest
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return moved(untrained(experiment(), tmp_path_factory.mktemp("run") / "run"))


def pixels(answer):
    assert isinstance(answer["image"], File) and answer["image"].media_type == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer["image"].data)), np.int32)


def near(ours, theirs):
    """Equal but for rounding, which may fall on the other side of one level."""
    return np.abs(ours - theirs).max() <= 1


def check_seeds(run, asked, shape):
    """Four records, of which the first and the last are equal: a picture is of its record and seed alone."""
    seeds = [5, 6, 7, 5]
    together = [pixels(answer) for answer in run.predict(asked, seed=seeds)]
    assert together[0].shape == shape
    for row, seed in enumerate(seeds):
        (alone,) = run.predict({name: [values[row]] for name, values in asked.items()}, seed=seed)
        assert near(pixels(alone), together[row])
    assert near(together[0], together[3])
    (other,) = run.predict({name: values[:1] for name, values in asked.items()}, seed=6)
    assert not near(pixels(other), together[0])


def test_a_picture_is_of_its_seed_alone(run):
    check_seeds(run, ASKED, (8, 8))


def test_class_steps_and_guidance_each_change_a_picture_and_have_defaults(run):
    ask = lambda **given: pixels(run.predict({name: [value] for name, value in given.items()}, seed=1)[0])
    plain = ask(label="3")
    assert near(ask(label="3", steps=2, guidance=1.5), plain)
    assert near(ask(label="3", steps="", guidance=None), plain)
    for given in ({"label": "4"}, {"label": None}, {"label": "3", "steps": 1}, {"label": "3", "guidance": 9}):
        assert not near(ask(**given), plain), given
    assert near(pixels(run.predict(["3"], seed=1)[0]), plain), "a bare value is the class"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": ["3"], "steps": [0]}, 'input "steps"'),
        ({"label": ["3"], "steps": [2.5]}, 'input "steps"'),
        ({"label": ["3"], "steps": ["many"]}, 'input "steps"'),
        ({"label": ["3"], "steps": [101]}, "from 1 to 100, not 101."),
        ({"label": ["3"], "steps": np.array([0.0])}, "found: 0.0"),
        ({"label": ["3"], "steps": [float("inf")]}, 'input "steps"'),
        ({"label": ["3"], "guidance": [-1]}, 'input "guidance"'),
        ({"label": ["3"], "guidance": [float("inf")]}, 'input "guidance"'),
        ({"label": ["3"], "steps": [True]}, "from 1 to 100, not a boolean"),
        ({"label": ["3"], "steps": [np.True_]}, "from 1 to 100, not a boolean"),
        ({"label": ["3"], "steps": ["10"]}, "from 1 to 100, not a string"),
        ({"label": ["3"], "steps": [float("nan")]}, "from 1 to 100, not nan."),
        ({"label": ["3"], "guidance": np.array([np.nan])}, "from 0 to 20, not nan."),
        ({"label": [float("nan")]}, 'input "label".*\n  found: nan'),
        ({"label": ["cat"]}, """input "label": must be one of 0, 1, 2, .*\n  found: 'cat'\n  try:   "label": "0"$"""),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(run, given, message):
    with pytest.raises(InputError, match=message):
        run.predict(given)


@pytest.mark.parametrize(
    ("given", "name", "problem"),
    [
        ({"label": ["3", "7"], "steps": [1]}, "steps", "has 1 value for 2 records."),
        ({"steps": [1], "label": ["3", "7"]}, "steps", "has 1 value for 2 records."),
        ({"label": np.array(["3"]), "steps": [1, 2]}, "steps", "has 2 values for 1 record."),
        ({"label": ["3", "7"], "steps": np.array([1, 2]), "guidance": []}, "guidance", "has 0 values for 2 records."),
        ({"label": "3"}, "label", "must be a list, of one value a record."),
        ({"label": ["3"], "steps": 1}, "steps", "must be a list, of one value a record."),
    ],
)
def test_columns_of_unequal_length_are_refused(run, given, name, problem):
    for predict in (run.predict, run.predict_each):
        with pytest.raises(InputError) as error:
            predict(given)
        assert error.value.where == f'input "{name}"' and error.value.problem == problem
        fix = eval(f"{{{error.value.fix.split(', or')[0]}}}")
        assert len(run.predict({**given, **fix})) == len({**given, **fix}["label"])


def test_cells_of_a_table_are_numbers_and_gaps_are_the_usual(run, tmp_path):
    """Beside a word the whole column is of texts."""
    (tmp_path / "wishes.csv").write_text("label,steps,guidance\n3,1e0,\n,,1\nnine,2,\n7,many,\n")
    predicted = predict_file(run, tmp_path / "wishes.csv", tmp_path / "made.jsonl", seed=1, batch_size=4)
    assert predicted.failed == 2 and "not a string (found: 'many')" in predicted.errors[4]
    assert 'input "label": must be one of 0, 1' in predicted.errors[3]
    rows = [json.loads(line) for line in predicted.path.read_text().splitlines()]
    first, second = (np.asarray(Image.open(tmp_path / row["image"]), np.int32) for row in rows[:2])
    ours = run.predict({"label": ["3", None], "steps": [1, None], "guidance": [None, 1]}, seed=1)
    assert near(first, pixels(ours[0])) and near(second, pixels(ours[1]))


def test_a_folder_of_answers_has_those_that_can_be_given(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "wishes.csv").write_text("label,steps\n3,1\nnine,1\n7,1\n")
    monkeypatch.setattr("suite.workflow.folders.open", lambda *args, **options: run)
    app.main(["predict", "run", "--input", str(tmp_path / "wishes.csv"), "--seed", "1", "--to", str(tmp_path / "made")])
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in (tmp_path / "made" / "answers.jsonl").read_text().splitlines()]
    assert [line.get("image") for line in lines] == ["0001-image.png", None, "0003-image.png"]
    assert lines[1] == {"input": "nine", "error": lines[1]["error"]} and "must be one of 0, 1" in lines[1]["error"]
    assert "3 records, 2 answered, 1 with an error" in printed.err and "record 2: input" in printed.err
    (third,) = run.predict({"label": ["7"], "steps": [1]}, seed=1)
    assert near(np.asarray(Image.open(tmp_path / "made" / "0003-image.png"), np.int32), pixels(third))
    (tmp_path / "none.csv").write_text("label\nnine\nten\n")
    with pytest.raises(InputError, match='record 1 of 2, input "label"'):
        predict_each_input(run, str(tmp_path / "none.csv"))


def test_options_that_a_request_leaves_out_take_no_word(run, capsys):
    predict_input(run, "3")
    assert capsys.readouterr().err == ""


def test_the_record_of_a_file_that_cannot_be_answered_is_named(run, tmp_path):
    (tmp_path / "wishes.csv").write_text("label,steps,guidance\n3,2,1\n7,0,1\n")
    with pytest.raises(InputError, match=r'record 2 of 2, input "steps".*\n  found: 0\n'):
        predict_input(run, str(tmp_path / "wishes.csv"))


def test_a_record_may_be_typed_as_a_json_object_and_a_table_may_lack_options(run, tmp_path):
    (tmp_path / "wishes.csv").write_text("label\n7\n")
    (ours,) = predict_input(run, '{"label": "7", "steps": 2}', seed=3)
    (theirs,) = predict_input(run, str(tmp_path / "wishes.csv"), seed=3)
    assert near(pixels(ours), pixels(theirs))
    with pytest.raises(InputError, match=r'input "lable": is no input of this model\.\n  try:   label'):
        predict_input(run, '{"lable": "7", "steps": 2}')


def test_views_of_pictures_that_are_made_are_refused():
    with pytest.raises(InputError, match=r"field task\.views: are of pictures that are looked at"):
        suite.replace(suite.load("vision.generate", smoke=True), {"task.views": ("flip",)})


def test_pictures_are_made_of_measured_splits_alone(run):
    task = run.experiment.task
    validation = run.evaluate("validation").metrics
    assert set(validation) == {"validation/loss"}
    assert len(task.source("test")) == 30 and "30 of" in task.source("test").notes[-1]
    test = run.evaluate("test").metrics
    names = ("fid", "kid", "precision", "recall")
    assert set(test) == {f"test/{name}" for name in ("loss", "copy_ratio", *names, *(f"{n}_real" for n in names))}
    assert test["test/fid_real"] < test["test/fid"] and test["test/copy_ratio"] > 1, "noise is far from digits"
    assert "8 x 8 pixels" in task.protocol and "2 steps (heun), guidance 1.5" in task.protocol


def test_artifacts_of_a_measured_split(run):
    scores, artifacts = run.examine("test")
    assert len(scores) == 30 and scores.interval("copy_ratio").known and not scores.interval("fid").known
    rows = dict(artifacts["Pictures by class"].rows)
    assert sum(map(len, rows.values())) == 30 and set(rows) <= {str(digit) for digit in range(10)}
    assert [len(pictures) for _, pictures in artifacts["Steps"].rows] == [4] * 12
    assert all(picture.any() for _, pictures in artifacts["Steps"].rows for picture in pictures)
    closest = artifacts["Nearest training pictures"].examples
    assert [example.loss for example in closest] == sorted((example.loss for example in closest), reverse=True)
    assert all(drawn(artifact) for artifact in artifacts.values())


def test_the_nearest_training_picture_is_the_one_of_the_least_distance():
    rng = np.random.default_rng(0)
    vectors, others = rng.standard_normal((5, 4)), rng.standard_normal((50, 4))
    place, distance = _nearest(jnp.asarray(vectors), jnp.asarray(others))
    every = np.linalg.norm(vectors[:, None] - others[None], axis=-1)
    np.testing.assert_array_equal(place, every.argmin(1))
    np.testing.assert_allclose(distance, every.min(1), rtol=1e-4)


def test_a_training_picture_is_the_nearest_to_itself(run):
    """A model that repeats what it has seen has a copy ratio of 0."""
    task = run.experiment.task
    rows = task.encode(task.source("train")[np.arange(9)])
    vectors = task.embed(None, rows)["vector"]
    place, distance = _nearest(vectors, vectors)
    np.testing.assert_array_equal(place, np.arange(9))
    scores = task.score({"distance": distance, "real_distance": np.ones(9)}, {"mask": np.ones(9, bool)})
    assert scores["copy_ratio"].value() < 1e-3


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A run of a classifier of the same classes, trained for some steps."""
    model = resnet.small(blocks=(1,), widths=(8,), stem_width=8)
    changes = {"model": model, "train.steps": 20, "precision.compute": "bfloat16"}
    trained = suite.replace(suite.load("vision.digits_dnn", smoke=True), changes)
    return suite.train(trained, tmp_path_factory.mktemp("classifier") / "run")


def test_features_of_a_run_are_what_its_head_is_given(run, classifier):
    features = features_of(str(classifier.folder))
    task = run.experiment.task
    images = jnp.asarray(task.encode(task.source("test")[np.arange(6)])["image"])
    vectors, logits = jax.jit(features.describe)(images)
    assert vectors.shape == (6, 8) and logits.shape == (6, 10) and features.classes == tuple("0123456789")
    said = classifier.outputs({"image": np.asarray(images)}, {})["logits"]
    np.testing.assert_allclose(logits, said, atol=0.1)  # its own are of 16 bits, these of 32
    larger = jnp.repeat(jnp.repeat(images, 2, 1), 2, 2)
    assert features.describe(jnp.repeat(larger, 3, 3))[0].shape == (6, 8), "of another size, and coloured"


def test_a_classifier_judges_made_and_real_pictures(run, classifier):
    measured = suite.replace(run.experiment, {"task.features": str(classifier.folder)})
    task = measured.task
    assert f"compared in features of {classifier.folder.name}" in task.protocol
    assert "features of gone" in suite.replace(measured, {"task.features": "runs/gone"}).task.protocol
    batch = {**task.encode(task.source("test")[np.arange(30)]), "mask": np.arange(30) < 29, "seed": np.arange(30)}
    outputs = jax.jit(task.compared)(batch["image"], batch)
    scores = task.score(outputs, batch)
    right = [
        answer["label"] == str(label)
        for answer, label in zip(classifier.predict(list(batch["image"])), batch["label"], strict=True)
    ][:29]
    assert scores["agreement_real"].value() == pytest.approx(np.mean(right), abs=0.1)
    assert scores["agreement"].value() == scores["agreement_real"].value(), "real pictures in the place of made ones"
    assert scores["fid"].value() == pytest.approx(0, abs=1e-6)


def test_features_that_are_none_are_refused(run, tmp_path):
    for source in (str(tmp_path), str(run.folder)):
        with pytest.raises(InputError):
            features_of(source)
    with pytest.raises(InputError, match=r"field task\.features.*no model of images"):
        features_of(str(suite.train(suite.load("vision.digits_dnn", smoke=True), tmp_path / "dnn").folder))


def test_pictures_take_the_channels_that_features_want():
    grey = jnp.full((1, 2, 2, 1), 7.0)
    assert _coloured(grey, 3).shape == (1, 2, 2, 3) and (_coloured(grey, 3) == 7).all()
    assert _coloured(jnp.concatenate([grey, grey + 3, grey + 6], -1), 1).item(0) == 10
    assert _coloured(grey, 4)[0, 0, 0].tolist() == [7, 7, 7, 255]


def test_the_gaussian_of_pixels_has_the_moments_of_training(run):
    task = run.experiment.task
    (baseline,) = task.baselines().values()
    baseline._compared = lambda made, batch: {"made": made}
    images = np.clip(np.random.default_rng(0).normal(128, 20, (2000, 2, 3, 1)), 0, 255)
    images[..., 1, :] = images[..., 0, :]  # pixels that go together
    rows = {"image": images.astype(np.uint8)}
    baseline.add({}, rows)
    assert "6 pixels" in baseline.fit()
    made = baseline.outputs({}, rows)["made"].reshape(2000, -1).astype(float)
    own = rows["image"].reshape(2000, -1).astype(float)
    np.testing.assert_allclose(made.mean(0), own.mean(0), atol=2)
    np.testing.assert_allclose(np.cov(made.T), np.cov(own.T), atol=40)
    assert np.array_equal(baseline.outputs({}, rows)["made"], baseline.outputs({}, rows)["made"]) is False


def test_the_baseline_of_a_run_is_measured_in_its_features(run):
    from suite.evaluation.baselines import measure

    task = run.experiment.task
    (measured,) = measure(task, task.source("train"), task.source("test"))
    values = measured.scores.values()
    assert measured.name == "Gaussian of pixels" and set(values) == {"fid", "kid", "precision", "recall"}
    assert 0 < values["fid"] < run.evaluate("test").metrics["test/fid"]


def test_it_learns_and_is_opened_again(tmp_path):
    changes = {"train.steps": 40, "train.batch_size": 64, "optim.learning_rate": 3e-3, "train.log_every": 10}
    trained = suite.train(experiment(**changes), tmp_path / "run")
    losses = [loss for loss in trained.history["train/loss"] if loss is not None]
    assert losses[-1] < 0.85 * losses[0]
    (first,), (second,) = trained.predict(["3"], seed=4), open_run(tmp_path / "run").predict(["3"], seed=4)
    assert first == second


def test_classes_are_withheld_in_training(run):
    task, model = run.experiment.task, run.model
    rows = task.encode(task.source("train")[np.arange(16)])
    batch = {**rows, "mask": np.ones(16, bool), "seed": np.arange(16, dtype=np.uint32)}
    other = {**batch, "label": (batch["label"] + 1) % 10}

    def loss(dropped, batch, rngs):
        return float(suite.replace(run.experiment, {"task.label_dropout": dropped}).task.loss(model, batch, rngs)[0])

    drawn = lambda: nnx.Rngs(dropout=0)
    assert loss(0.0, batch, drawn()) != loss(0.0, other, drawn())
    assert loss(0.9999, batch, drawn()) == loss(0.9999, other, drawn())
    assert loss(0.0, batch, drawn()) == loss(0.0, batch, drawn()) != loss(0.0, batch, nnx.Rngs(dropout=1))
    assert loss(0.9999, batch, None) != loss(0.9999, other, None), "evaluation withholds nothing"


@pytest.mark.parametrize(
    "changes", [{"task.process": Edm()}, {"model": dit.Config(patch=2, layers=1, hidden=16, heads=2)}]
)
def test_other_processes_and_models(tmp_path, changes):
    made = moved(untrained(experiment(**changes), tmp_path / "run"))
    assert pixels(made.predict(["3"], seed=1)[0]).shape == (8, 8)
    assert np.isfinite(made.evaluate("validation").metrics["validation/loss"])


def test_pictures_without_classes(tmp_path):
    made = moved(untrained(experiment(**{"task.label": ""}), tmp_path / "run"))
    assert made.experiment.model.outputs == 0 and [entry.name for entry in made.codec.inputs] == ["steps"]
    first, second = made.predict({"steps": [1, 2]}, seed=3)
    assert not near(pixels(first), pixels(second))
    assert "guidance" not in made.experiment.task.protocol
    assert "test/fid" in made.evaluate("test").metrics


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"steps": 0}, "task.steps"),
        ({"steps": 200}, "task.steps"),
        ({"label_dropout": 1.0}, "task.label_dropout"),
        ({"pictures": 0}, "task.pictures"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, where):
    with pytest.raises(InputError, match=f"field {where}"):
        ImageGeneration(data=Digits(), **changes)


def test_a_bundle_and_a_server_make_the_pictures_of_the_run(run, tmp_path):
    bundle = suite.export(run, tmp_path / "makes", name="makes", platforms=("cpu",))
    ours = [pixels(answer) for answer in run.predict(ASKED, seed=[5, 6, 7, 5])]
    theirs = [pixels(answer) for answer in bundle.predict(ASKED, seed=[5, 6, 7, 5])]
    assert all(map(near, ours, theirs))
    with Serving(bundle.folder, "--sizes", "1", "4") as server:
        asked = {"inputs": [{"label": "7", "steps": 3, "guidance": 1.0}], "seed": 6}
        status, answered = server.post("makes", asked)
        data = base64.b64decode(answered["answers"][0]["image"]["data"])
        assert near(np.asarray(Image.open(io.BytesIO(data)), np.int32), ours[1]) and answered["seed"] == [6]
        for name, value, fix in (
            ("steps", 1000, '"steps": 2'),
            ("steps", 0, '"steps": 2'),
            ("steps", "10", '"steps": 2'),
            ("steps", True, '"steps": 2'),
            ("guidance", 21, '"guidance": 1.5'),
            ("label", "nine", '"label": "0"'),
        ):
            status, refused = server.post("makes", {"inputs": [{"label": "7", name: value}]})
            assert status == 400 and refused["error"]["field"] == f"inputs[0].{name}", refused
            assert refused["error"]["message"].startswith("must be ") and refused["error"]["fix"] == fix
        described = {entry["name"]: entry for entry in server.get("/v1/models/makes")[1]["inputs"]}
        assert [described["steps"][key] for key in ("low", "high", "whole", "default")] == [1, 100, True, 2]
        assert [described["guidance"][key] for key in ("low", "high", "whole", "default")] == [0, 20, False, 1.5]
        assert [described[name]["absent"] for name in ("label", "steps", "guidance")] == ["any", "2", "1.5"]
        assert server.post("makes", {"inputs": [{"label": None}], "seed": 6})[0] == 200
