"""Embeddings: losses and ranks by their definitions, pairs of classes, and what a run of each kind learns and shows."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import suite
from suite.data.preprocessing.partners import PARTNER, of_classes, row_keys
from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.datasets import Folder, Table
from suite.data.sources.memory import Memory
from suite.errors import InputError
from suite.evaluation.contrast import in_batch_losses, ranked, unit
from suite.evaluation.metrics.retrieval import retrieval_scores
from suite.evaluation.vector_map import KEPT, VectorMap
from suite.models import transformer
from suite.parallel.layout import Layout, laid_out
from suite.reporting.drawings import drawn
from suite.training.preprocessors import prepare
from tests.untrained import untrained

WORDS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}
B, D = 6, 4


def keys(numbers):
    return np.stack([np.asarray(numbers), np.zeros(len(numbers))], 1).astype(np.int32)


@pytest.fixture
def rows():
    """Two sides of a batch whose last row is padding; row 1 has the partner of row 0, and row 3 is row 2 again."""
    rng = np.random.default_rng(0)
    own, other = (unit(jnp.asarray(rng.standard_normal((B, D)), jnp.float32)) for _ in range(2))
    mask = np.arange(B) < B - 1
    return (
        own,
        other,
        {"content": keys([0, 1, 2, 2, 4, 5]), "other_content": keys([10, 10, 12, 13, 0, 15]), "mask": mask},
    )


COUNTED = {0: [0, 2, 3], 1: [1, 2, 3, 4], 2: [0, 1, 2, 4], 3: [0, 1, 3, 4], 4: [0, 1, 2, 3, 4]}
"""Row -> partners to tell apart: not those equal to its own, nor of a row equal to it, nor equal to the row itself."""


def test_a_row_is_told_from_the_partners_that_are_others(rows):
    own, other, batch = rows
    losses = np.asarray(in_batch_losses(own, other, batch, 0.1))
    scores = np.asarray(own @ other.T) / 0.1
    there = {i: np.log(np.exp(scores[i, of]).sum()) - scores[i, i] for i, of in COUNTED.items()}
    # The other way, the rows are the candidates: row 0 is what the partner of row 4 equals.
    back = {0: [0, 2, 3, 4], 1: [1, 2, 3, 4], 2: [0, 1, 2, 4], 3: [0, 1, 3, 4], 4: [1, 2, 3, 4]}
    again = {i: np.log(np.exp(scores[of, i]).sum()) - scores[i, i] for i, of in back.items()}
    wanted = [(there[i] + again[i]) / 2 for i in range(B - 1)]
    np.testing.assert_allclose(losses[:-1], wanted, rtol=1e-5)
    assert (
        np.isfinite(losses).all()
        and np.isfinite(jax.grad(lambda x: in_batch_losses(x, other, batch, 0.1).sum())(own)).all()
    )


def test_rows_of_a_label_are_all_right(rows):
    own, other, batch = rows
    batch = {"content": keys(range(B)), "other_content": keys(range(10, 10 + B)), "mask": batch["mask"]}
    alone = in_batch_losses(own, other, batch, 0.1)
    labelled = in_batch_losses(own, other, {**batch, "group": keys([0, 0, 1, 2, 3, 4])}, 0.1)
    np.testing.assert_allclose(labelled[2:-1], alone[2:-1], rtol=1e-5)
    scores = np.asarray(own @ other.T)[:, :-1] / 0.1
    there = np.log(np.exp(scores[0]).sum()) - scores[0, :2].mean()
    back = np.log(np.exp(scores[:-1, 0]).sum()) - scores[:2, 0].mean()
    np.testing.assert_allclose(labelled[0], (there + back) / 2, rtol=1e-5)


def test_negatives_are_of_all_devices(rows):
    """Under pmap a device sees its own rows; losses and gradients are those of the whole batch."""
    own, other, batch = rows
    batch = {**batch, "group": keys([0, 0, 1, 2, 3, 4])}

    def total(sides, batch):
        return in_batch_losses(*sides, batch, 0.1)[: len(batch["mask"])]

    def shared(sides, batch):
        with laid_out(Layout(axis="devices")):
            return total(sides, batch)

    parts = jax.tree.map(lambda a: jnp.reshape(a, (2, B // 2, *a.shape[1:])), ((own, other), batch))
    split = lambda sides: jax.vmap(shared, axis_name="devices")(sides, parts[1]).reshape(-1)
    np.testing.assert_allclose(split(parts[0]), total((own, other), batch), rtol=1e-5)
    ours = jax.grad(lambda sides: split(sides)[:-1].sum())(parts[0])
    theirs = jax.grad(lambda sides: total(sides, batch)[:-1].sum())((own, other))
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.reshape(B, D), yours, atol=1e-5)


def test_ranks_are_among_all_candidates():
    angles = np.deg2rad([0, 10, 20, 90])
    candidates = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    reference = {"vector": candidates, "content": keys([1, 2, 3, 4])}
    query = np.array([[1, 0]] * 4, np.float32)
    batch = {"content": keys([9, 9, 9, 1]), "seed": np.array([0, 2, 3, 1], np.uint32)}
    said = ranked(jnp.asarray(query), batch, reference, 0.1)
    assert said["rank"].tolist() == [1, 3, 4, 1]  # the last is the first candidate, which is not counted
    np.testing.assert_allclose(said["right"], np.cos(angles[[0, 2, 3, 1]]), atol=1e-6)
    np.testing.assert_allclose(said["wrong"], np.cos(angles[[1, 0, 0, 2]]), atol=1e-6)
    scores = np.cos(angles) / 0.1
    np.testing.assert_allclose(said["loss"][1], np.log(np.exp(scores).sum()) - scores[2], rtol=1e-4)
    # Records of the same label are right, too, and the first of them counts.
    groups = {"group": keys([5, 6, 6, 6])}
    labelled = ranked(jnp.asarray(query), {**batch, "group": keys([6] * 4)}, {**reference, **groups}, 0.1)
    assert labelled["rank"].tolist() == [1, 2, 2, 1]


def test_vectors_that_are_all_equal_find_nothing():
    reference = {"vector": jnp.ones((5, 1)), "content": keys(range(5))}
    said = ranked(jnp.ones((2, 1)), {"content": keys([8, 9]), "seed": np.array([0, 3], np.uint32)}, reference, 0.1)
    assert said["rank"].tolist() == [5, 5]
    scores = retrieval_scores(said["rank"], said["loss"])
    assert scores["recall_at_1"].value() == 0 and scores["recall_at_5"].value() == 1
    assert scores["mrr"].value() == pytest.approx(0.2)


def test_records_of_a_class_are_each_others_partners():
    pairs = of_classes(Memory({"text": list("abcdef"), "kind": list("xyxzyx")}), "text", "kind")
    columns = pairs[np.arange(len(pairs))]
    assert list(zip(columns["text"], columns[PARTNER], strict=True)) == [
        ("a", "c"),
        ("b", "e"),
        ("c", "f"),
        ("e", "b"),
        ("f", "a"),
    ]
    assert pairs.dropped == {"a kind that no other record has": 1}
    assert pairs.column(PARTNER, np.array([1])) == ["e"]
    with pytest.raises(InputError, match="no two records have the same value"):
        of_classes(Memory({"text": list("ab"), "kind": list("xy")}), "text", "kind")


def test_what_a_model_cannot_tell_apart_has_one_key():
    pixels = np.zeros((3, 2, 2, 1), np.uint8)
    pixels[2] = 1
    found = row_keys(pixels)
    assert (found[0] == found[1]).all() and (found[0] != found[2]).any()


def test_a_map_is_the_same_sample_however_batches_fall():
    rng = np.random.default_rng(0)
    vectors, places = rng.standard_normal((KEPT + 100, 3)), np.arange(KEPT + 100)
    given, groups = [f"t{i}" for i in places], [f"g{i % 2}" for i in places]
    part = lambda of: VectorMap.of(
        places[of], vectors[of], [given[i] for i in places[of]], [groups[i] for i in places[of]]
    )
    whole, joined = part(slice(None)), part(slice(0, 650)) + part(slice(650, None))
    np.testing.assert_array_equal(whole.vectors, joined.vectors)
    assert whole.given == joined.given and whole.among == joined.among == KEPT + 100 and len(whole.given) == KEPT
    spread = np.array([int(text[1:]) for text in whole.given])
    assert abs(spread.mean() - places.mean()) < 25  # of all of the split, not its beginning
    points, shares = whole.projected()
    centred = whole.vectors - whole.vectors.mean(0)
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(centred.T, bias=True))[:0:-1], (points**2).mean(0), rtol=1e-4)
    assert shares.sum() < 1 and (np.abs(points).max(0) == points.max(0)).all()
    others, cosines = whole.nearest(0, 3)
    assert 0 not in others and (np.diff(cosines) <= 0).all()


def test_a_map_of_one_axis_or_none_is_drawn():
    line = VectorMap.of(np.arange(3), np.ones((3, 1)), ["a", "b", "c"], ["", "", ""])
    assert np.isfinite(line.projected()[0]).all()
    assert len(drawn(line)) == 3
    assert "fewer than two" in drawn(VectorMap.of(np.arange(1), np.ones((1, 2)), ["a"], [""]))[0].text


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A table of numbers in two languages, with a score that says whether a pair is one."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("pairs") / "pairs.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "other", "likeness"])
        for _ in range(240):
            said = list(rng.choice(list(WORDS), 3, replace=False))
            writer.writerow([" ".join(said), " ".join(WORDS[word] for word in said), rng.choice([1, 3, 5])])
    return path


def experiment(path, **changes):
    small = transformer.Config(layers=1, width=32, heads=2, feed_forward=64, dropout=0.0, positions="sinusoidal")
    return suite.replace(
        suite.load("text.embed", smoke=True),
        {
            "task.data": Table(path=str(path)),
            "task.tokenizer": SentencePiece(column="both", kind="word", vocab_size=30),
            "task.max_length": 8,
            "model": small,
            "checkpoint.init_from": "",
            "pipeline.buckets": (8,),
            "optim.frozen": (),
            "precision.compute": "float32",
            **changes,
        },
    )


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    changes = {"train.steps": 60, "train.eval_every": 30, "train.batch_size": 32, "optim.learning_rate": 1e-2}
    return suite.train(experiment(pairs, **changes), tmp_path_factory.mktemp("embedding") / "run")


def test_pairs_find_each_other(run):
    candidates = len(run.experiment.task.source("validation"))
    assert run.experiment.train.best == "mrr"
    assert run.metrics["validation/recall_at_1"] > 0.5 > 10 / candidates
    scores = run.scores("validation")
    assert scores.values()["mrr"] == pytest.approx(run.metrics["validation/mrr"])
    interval = scores.interval("recall_at_1")
    assert interval.low < interval.value < interval.high


def test_answers_are_vectors_of_length_one(run):
    answers = run.predict(["one two three", "eins zwei drei", "six five four"])
    vectors = np.array([answer["vector"] for answer in answers])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    plain = suite.replace(run.experiment, {"task.normalise": False})
    assert plain.task.codec.outputs == run.codec.outputs


def test_a_report_shows_vectors_cosines_and_partners(run):
    _, artifacts = run.examine("validation")
    assert list(artifacts) == ["Vectors", "Cosines", "Partners ranked last"]
    says, figure, cards = drawn(artifacts["Vectors"])
    assert "vectors of 32 numbers" in says.text and figure.plots[0].svg.count("<circle") >= artifacts["Vectors"].among
    fields = dict(cards.cards[0].fields)
    assert len(fields["nearest"].rows) == 4
    for name in ("Cosines", "Partners ranked last"):
        assert drawn(artifacts[name])


def test_scores_of_pairs_are_their_cosines(pairs, tmp_path):
    scored = experiment(pairs, **{"task.similarity": "likeness"})
    run = untrained(scored, tmp_path / "run")
    task = run.experiment.task
    assert task.scale.bounds == (1, 5) and task.reference("validation") is None
    columns = task.source("validation")[np.arange(6)]
    encoded = task.encode(columns)
    np.testing.assert_allclose(encoded["similarity"], (np.asarray(columns["likeness"]) - 1) / 4)
    metrics = run.evaluate("validation").metrics
    assert -1 <= metrics["validation/spearman"] <= 1 and metrics["validation/loss"] > 0
    _, artifacts = run.examine("validation")
    assert list(artifacts) == ["Cosines and scores", "Vectors"]


def test_what_says_nothing_of_nearness_is_refused(pairs):
    for changes, said in (
        ({"task.other": ""}, "are both empty"),
        ({"task.other": "", "task.label": "likeness", "task.similarity": "likeness"}, "names no column"),
        ({"task.other": "another"}, 'field task.other: column "another" is not in pairs.csv'),
        ({"task.text": "said"}, 'field task.text: column "said" is not in pairs.csv'),
        ({"task.label": "photo"}, """need not be where "other" says what is near"""),
        ({"task.other": "b", "task.label": "likeness"}, """need not be where "likeness" says what is near"""),
    ):
        with pytest.raises(InputError, match=said):
            experiment(pairs, **changes).task.source("train")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for place, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir()
        for i in range(24):
            pixels = rng.integers(0, 60, (9, 8, 3), dtype=np.uint8)
            pixels[..., place] += 120
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_pictures_of_a_class_are_partners(photos, tmp_path):
    changes = {"task.data": Folder(path=str(photos)), "task.statistics.size": (8, 8)}
    run = untrained(suite.replace(suite.load("vision.embed", smoke=True), changes), tmp_path / "run")
    task = run.experiment.task
    source = task.source("train")
    columns = source[np.arange(4)]
    assert set(columns) >= {"image", "label", PARTNER} and columns["label"][0] in ("red", "green", "blue")
    encoded = task.encode(columns, np.random.default_rng(0))
    assert encoded["image"].shape == encoded["other_image"].shape == (4, 8, 8, 3)
    np.testing.assert_array_equal(encoded["content"], task.encode(columns)["content"])  # before any augmentation
    metrics = run.evaluate("validation").metrics
    assert 0 <= metrics["validation/recall_at_1"] <= 1
    _, artifacts = run.examine("validation")
    (_, _, cards) = drawn(artifacts["Vectors"])
    assert cards.cards[0].picture is not None and len(cards.cards[0].fields) > 1
    loss, states = task.loss(run.model, {**encoded, "mask": np.ones(4, bool)}, None)
    assert np.isfinite(loss) and states["loss"].count == 4


def test_the_range_of_scores_is_that_of_training(tmp_path):
    (tmp_path / "d.csv").write_text("text,other,likeness\n" + "a,b,2\nc,d,2\n" * 20)
    same = experiment(tmp_path / "d.csv", **{"task.similarity": "likeness"})
    with pytest.raises(InputError, match="the same score for all pairs"):
        prepare(same, tmp_path, same.task.source("train"))
