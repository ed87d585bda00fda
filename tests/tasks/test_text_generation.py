"""Image generation from texts: what a text changes, seeds by row, kept vectors, and pictures that a bundle and a server
make as the run does."""

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
from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Table
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.experiment.defaults import settled
from suite.models import dit, unet
from suite.models.denoising import Condition
from suite.tasks.vision.text_generation import TextToImage
from suite.weights import pretrained
from tests.parity import golden
from tests.serving.asking import Serving
from tests.tasks.test_generation import check_seeds, moved, near, pixels
from tests.tiny_bert import CASE
from tests.untrained import untrained

COLOURS = {"red": 0, "green": 1, "blue": 2}
ASKED = {
    "caption": ["a red picture", "this one is blue", None, "a red picture"],
    "steps": [2, 3, 1, 2],
    "guidance": [1.5, 1.0, 4.0, 1.5],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Pictures of a colour, each with two texts that name it."""
    folder, rng = tmp_path_factory.mktemp("captions"), np.random.default_rng(0)
    rows = []
    for place in range(90):
        name = list(COLOURS)[place % 3]
        shown = rng.integers(0, 40, (8, 8, 3), dtype=np.uint8)
        shown[..., COLOURS[name]] = rng.integers(190, 250)
        Image.fromarray(shown).save(folder / f"{place}.png")
        rows += [{"image": f"{place}.png", "caption": text} for text in (f"a {name} picture", f"this one is {name}")]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder / "captions.jsonl"


def experiment(table, **changes):
    """``changes`` by the names of fields."""
    own = {
        "task.data": Table(path=str(table), validation=0.2, test=0.2),
        "task.tokenizer": SentencePiece(column="text", part="text", vocab_size=40),
        "task.max_length": 12,
        "task.pictures": 12,
        "model.parts.network.widths": (8, 16),
        "model.parts.network.patch": 1,
        "train.eval_batch_size": 16,
    }
    return suite.replace(suite.load("vision.generate_text", smoke=True), {**own, **changes})


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    return moved(untrained(experiment(table), tmp_path_factory.mktemp("run") / "run"))


def test_a_picture_is_of_its_text_and_seed_alone(run):
    check_seeds(run, ASKED, (8, 8, 3))


def test_text_steps_and_guidance_each_change_a_picture_and_have_defaults(run):
    ask = lambda **given: pixels(run.predict({name: [value] for name, value in given.items()}, seed=1)[0])
    plain = ask(caption="a red picture")
    assert near(ask(caption=" a red  picture", steps="", guidance=3.0), plain)
    for given in ({"caption": "a blue picture"}, {"caption": ""}, {"caption": "a red picture", "guidance": 0.0}):
        assert not near(ask(**given), plain), given
    assert near(ask(caption="a red picture", guidance=0.0), ask(caption="a blue picture", guidance=0))
    assert near(ask(caption=None), ask(caption="a blue picture", guidance=0)), "no text is none"
    assert near(pixels(run.predict(["a red picture"], seed=1)[0]), plain), "a bare value is the text"


@pytest.mark.parametrize("given", [{"steps": [0]}, {"steps": ["many"]}, {"guidance": [-1]}])
def test_requests_that_cannot_be_answered_are_refused(run, given):
    with pytest.raises(InputError, match=f'input "{next(iter(given))}"'):
        run.predict({"caption": ["a red picture"], **given})


def test_texts_of_a_picture_are_one_record_and_training_draws_one(run):
    task = run.experiment.task
    sources = {split: task.source(split) for split in ("train", "validation", "test")}
    assert [len(source) for source in sources.values()] == [54, 18, 12]
    assert not [line for line in task.remarks(sources) if "more than one split" in line]
    columns = sources["train"][np.arange(8)]
    drawn = [task.encode(columns, np.random.default_rng(seed))["tokens"] for seed in range(4)]
    assert any(not np.array_equal(one, drawn[0]) for one in drawn)
    np.testing.assert_array_equal(task.encode(columns)["tokens"], task.encode(columns)["tokens"])
    assert task.titles(columns, {}) == [row[0] for row in columns["caption"]]


def test_texts_are_withheld_in_training_and_evaluation_withholds_none(run):
    task, model = run.experiment.task, run.model
    rows = task.encode(task.source("train")[np.arange(12)])
    batch = {**rows, "mask": np.ones(12, bool), "seed": np.arange(12, dtype=np.uint32)}
    other = {**batch, "tokens": np.roll(batch["tokens"], 1, 0), "tokens_mask": np.roll(batch["tokens_mask"], 1, 0)}

    def loss(dropped, batch, rngs):
        return float(suite.replace(run.experiment, {"task.text_dropout": dropped}).task.loss(model, batch, rngs)[0])

    drawn = lambda: nnx.Rngs(dropout=0)
    assert loss(0.0, batch, drawn()) != loss(0.0, other, drawn())
    assert loss(0.9999, batch, drawn()) == loss(0.9999, other, drawn())
    assert loss(0.9999, batch, None) != loss(0.9999, other, None)


def test_a_measured_split_has_pictures_of_its_texts(run):
    assert set(run.evaluate("validation").metrics) == {"validation/loss"}
    metrics = run.evaluate("test").metrics
    assert {"test/fid", "test/kid", "test/copy_ratio"} <= metrics.keys() and "test/agreement" not in metrics
    _, artifacts = run.examine("test")
    rows = dict(artifacts["Pictures by text"].rows)
    assert rows.keys() <= {f"a {name} picture" for name in COLOURS} and sum(map(len, rows.values())) == 12


def test_vectors_of_a_frozen_encoder_are_kept_and_are_those_it_makes_of_a_request(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    folder = golden.folder(CASE, tmp_path / "bert")
    task = suite.replace(run.experiment, {"task.text_weights": str(folder)}).task
    columns = task.source("train")[np.arange(5)]
    rows = task.encode(columns)
    assert rows["said"].all() and "tokens" not in rows
    _, encoder = pretrained.load(str(folder), outputs=0, pooling="mean")
    asked = task.codec.read([row[0] for row in columns["caption"]])
    np.testing.assert_allclose(rows["text_vector"], encoder(asked["tokens"], asked["tokens_mask"]), atol=1e-5)
    drawn = [task.encode(columns, np.random.default_rng(seed))["text_vector"] for seed in range(4)]
    assert any(not np.array_equal(one, drawn[0]) for one in drawn)


def test_an_encoder_that_is_frozen_is_kept_where_its_weights_are_published():
    recipe = suite.load("vision.generate_text")
    train = Memory({"image": [np.zeros((28, 28, 3), np.uint8)] * 3, "caption": [["a"]] * 3})

    def chosen(**changes):
        made = settled(suite.replace(recipe, {"checkpoint.init_from": {"text": "texts"}, **changes}), train)[0]
        return made.task.text_weights

    assert chosen() == "texts"
    assert chosen(**{"optim.frozen": ()}) == chosen(**{"optim.frozen": ("^text/encoder/layers/0",)}) == ""
    assert chosen(**{"model.parts.text.pooling": "cls"}) == ""
    network = settled(recipe, train)[0].model.parts["network"]
    assert network.patch == 2 and network.widths == (64, 96)


@pytest.mark.parametrize("family", [unet, dit])
def test_a_network_says_which_size_of_texts_it_takes(family):
    changes = (
        {"widths": (8, 16), "attention": ()} if family is unet else {"layers": 1, "hidden": 16, "heads": 2, "patch": 2}
    )
    model = family.Config(channels=1, text=6, **changes).build(rngs=nnx.Rngs(0))
    pictures, time = jnp.zeros((2, 8, 8, 1)), jnp.zeros(2)
    assert model(pictures, time, text=jnp.ones((2, 6)), said=jnp.array([True, False])).shape == pictures.shape
    with pytest.raises(InputError, match=r"field model.parts.network.text.*is 6, and the encoder of texts gives 5"):
        model(pictures, time, text=jnp.ones((2, 5)), said=jnp.ones(2, bool))


def test_without_a_text_the_vector_is_that_of_none_whatever_stands_in_its_place():
    condition = Condition(8, 0, 4, rngs=nnx.Rngs(0))
    condition.unsaid[...] = jnp.arange(8.0)
    vectors, time = jax.random.normal(jax.random.key(0), (3, 4)), jnp.linspace(0, 1, 3)
    none = condition(time, None, vectors, jnp.zeros(3, bool))
    np.testing.assert_array_equal(none, condition(time, None))
    some = condition(time, None, vectors, jnp.array([True, False, False]))
    np.testing.assert_array_equal(some[1:], none[1:])
    assert abs(some[0] - none[0]).max() > 0.1


@pytest.mark.parametrize("changes", [{"text_dropout": 1.0}, {"max_length": 0}, {"steps": 0}])
def test_settings_that_cannot_be_are_refused(changes):
    with pytest.raises(InputError, match=f"field task.{next(iter(changes))}"):
        TextToImage(data=Table(path=""), **changes)


def test_it_learns_which_colour_a_text_names(table, tmp_path):
    changes = {
        "train.steps": 500,
        "train.batch_size": 32,
        "train.eval_every": 500,
        "train.log_every": 100,
        "train.ema": 0.98,
        "optim.learning_rate": 3e-3,
        "model.parts.network.embedding": 32,
        "model.parts.text.layers": 0,  # the mean of the tokens' vectors
        "task.steps": 8,
    }
    trained = suite.train(experiment(table, **changes), tmp_path / "run")
    asked = [f"a {name} picture" for name in COLOURS for _ in range(4)]
    made = np.stack([pixels(answer) for answer in trained.predict(asked, seed=list(range(12)))])
    assert (made.mean((1, 2)).argmax(-1) == np.repeat(list(COLOURS.values()), 4)).mean() > 0.9


def test_a_bundle_and_a_server_make_the_pictures_of_the_run(run, tmp_path):
    bundle = suite.export(run, tmp_path / "makes", name="makes", platforms=("cpu",))
    ours = [pixels(answer) for answer in run.predict(ASKED, seed=[5, 6, 7, 5])]
    theirs = [pixels(answer) for answer in bundle.predict(ASKED, seed=[5, 6, 7, 5])]
    assert all(map(near, ours, theirs))
    with Serving(bundle.folder, "--sizes", "1", "4") as server:
        asked = {"inputs": [{"caption": "this one is blue", "steps": 3, "guidance": 1.0}], "seed": 6}
        status, answered = server.post("makes", asked)
        assert status == 200, answered
        data = base64.b64decode(answered["answers"][0]["image"]["data"])
        assert near(np.asarray(Image.open(io.BytesIO(data)), np.int32), ours[1]) and answered["seed"] == [6]
