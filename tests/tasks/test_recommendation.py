"""Recommendation of the next item: rankings of the whole catalogue, their scores, losses, and answers of a run."""

import csv
import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import suite
from suite.data.preprocessing.item_tags import ItemTags
from suite.data.preprocessing.items import BEGINNING, FIRST, Items
from suite.data.sources.datasets import Table
from suite.evaluation import recommendation
from suite.evaluation.baselines import measure
from suite.evaluation.metrics.recommendation import recommendation_scores
from suite.evaluation.popularity import popularity_thirds, recall_by_popularity
from suite.evaluation.recommendation import best_items, target_losses
from suite.experiment import recipes, sections
from suite.exporting.agreement import alike
from suite.models import decoder, gru
from suite.models import tags as tags_model
from suite.models.parts import Parts
from suite.reporting import comparisons, side_by_side
from suite.tasks.recommendation import sequence
from suite.tasks.recommendation.sequence import SequentialRecommendation

RNG = np.random.default_rng(0)
ITEMS = 12


def test_scores_are_those_of_the_definitions():
    hits = np.zeros((3, 50), bool)
    hits[0, [0, 6]] = True  # two of three, first and seventh
    hits[1, 19] = True  # the only one, twentieth
    scores = {name: state.value() for name, state in recommendation_scores(hits, np.array([3, 1, 2])).items()}
    assert scores["recall_5"] == pytest.approx((1 / 3) / 3)
    assert scores["recall_20"] == pytest.approx((2 / 3 + 1) / 3)
    assert scores["hit_rate_10"] == pytest.approx(1 / 3) and scores["hit_rate_20"] == pytest.approx(2 / 3)
    assert scores["mrr_5"] == pytest.approx(1 / 3) and scores["mrr_50"] == pytest.approx((1 + 1 / 20) / 3)
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    first = (1 + 1 / np.log2(8)) / ideal
    assert scores["ndcg_10"] == pytest.approx(first / 3)
    assert scores["ndcg_20"] == pytest.approx((first + 1 / np.log2(21)) / 3)


def test_scores_are_those_of_scikit_learn():
    from sklearn.metrics import ndcg_score

    relevant, predicted = RNG.random((40, 60)) < 0.2, RNG.normal(size=(40, 60))
    hits = np.take_along_axis(relevant, np.argsort(-predicted, 1), 1)[:, :50]
    scores = recommendation_scores(hits, relevant.sum(1))
    for places in (5, 10, 20, 50):
        assert scores[f"ndcg_{places}"].value() == pytest.approx(ndcg_score(relevant, predicted, k=places))


def test_scores_are_those_of_trec_eval():
    """Of users of whom one, some or more than fifty items were held out, and none, some or all are found."""
    ir_measures = pytest.importorskip("ir_measures")
    from ir_measures import RR, R, Success, nDCG

    relevant = RNG.random((40, 80)) < np.repeat([0.02, 0.2, 0.8, 0.95], 10)[:, None]
    relevant[:, 0] = True
    ranking = np.argsort(RNG.random((40, 80)), 1)
    ours = recommendation_scores(np.take_along_axis(relevant, ranking, 1)[:, :50], relevant.sum(1))
    held_out = {str(user): {str(item): 1 for item in np.flatnonzero(row)} for user, row in enumerate(relevant)}
    run = {str(user): {str(item): -float(place) for place, item in enumerate(row)} for user, row in enumerate(ranking)}
    kinds = {"recall": R, "ndcg": nDCG, "hit_rate": Success, "mrr": RR}
    measures = {f"{name}_{places}": kind @ places for name, kind in kinds.items() for places in (5, 10, 20, 50)}
    values = ir_measures.calc_aggregate(list(measures.values()), held_out, run)
    assert set(measures) == set(ours)
    for name, theirs in measures.items():
        assert ours[name].value() == pytest.approx(values[theirs]), name


@pytest.mark.parametrize("block", [1 << 16, 8, 5])
def test_the_best_items_are_those_of_a_full_sort(monkeypatch, block):
    """By whatever blocks; equal scores in the order of the catalogue, and neither seen items nor padding."""
    monkeypatch.setattr(recommendation, "BLOCK", block)
    users = RNG.integers(-2, 3, (6, 2)).astype(np.float32)
    table = RNG.integers(-2, 3, (FIRST + 30, 2)).astype(np.float32)  # many equal scores
    seen = np.where(RNG.random((6, 4)) < 0.7, RNG.integers(FIRST, FIRST + 30, (6, 4)), 0)
    items, best = jax.jit(best_items, static_argnums=3)(users, table, seen, 5)
    scores = (users @ table.T).astype(np.float64)
    scores[:, :FIRST] = -np.inf
    for row, numbers in enumerate(seen):
        scores[row, numbers[numbers > 0]] = -np.inf
    expected = np.argsort(-scores, 1, kind="stable")[:, :5]
    np.testing.assert_array_equal(items, expected)
    np.testing.assert_allclose(best, np.take_along_axis(scores, expected, 1))


@pytest.mark.parametrize("block", [1 << 16, 7])
def test_losses_of_targets_are_of_the_softmax_over_items(monkeypatch, block):
    monkeypatch.setattr(recommendation, "BLOCK", block)
    users, table = RNG.normal(size=(4, 3)), RNG.normal(size=(FIRST + 20, 3))
    targets = RNG.integers(FIRST, FIRST + 20, (4, 2))
    log_probabilities = np.asarray(jax.nn.log_softmax(users @ table[FIRST:].T))
    expected = -np.take_along_axis(log_probabilities, targets - FIRST, 1)
    np.testing.assert_allclose(target_losses(*map(jnp.asarray, (users, table, targets))), expected, rtol=1e-5)


def log(path, users=60):
    """Each user walks round the ring of items from somewhere: what comes next is known."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "what", "when"])
        for user in range(users):
            for step in range(5 + user % 5):
                writer.writerow([f"user {user}", f"item {(user * 5 + step) % ITEMS:02d}", 1000 * user + step])
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommendation")
    recipe = recipes.load("recommendation.sequence", smoke=True)
    changes = {
        "task.data": Table(path=str(log(folder / "log.csv"))),
        "task.user": "who",
        "task.item": "what",
        "task.time": "when",
        "task.top": 3,
        "model.dropout": 0.0,
        "train.steps": 60,
        "train.log_every": 20,
        "train.loggers": (),
        "train.baseline": False,
        "optim.learning_rate": 2e-2,
        "optim.warmup_steps": 5,
    }
    return suite.train(sections.replace(recipe, changes), folder / "run")


def test_the_next_item_is_found(run):
    metrics = run.evaluate("test").metrics
    assert metrics["test/hit_rate_5"] > 0.95 and metrics["test/mrr_5"] > 0.8
    assert metrics["test/coverage_10"] == 1


def test_answers_name_items_that_were_not_had(run):
    known, empty, strange = run.predict(
        {"history": [["item 03", "item 04", "item 05"], [], ["item 01", "no such item", "item 02"]]}
    )
    assert known["items"][0]["item"] == "item 06" and len(known["items"]) == 3 and known["unseen"] == 0
    assert not {"item 03", "item 04", "item 05"} & {entry["item"] for entry in known["items"]}
    scores = [entry["score"] for entry in known["items"]]
    assert scores == sorted(scores, reverse=True)
    assert len(empty["items"]) == 3
    assert strange["items"][0]["item"] == "item 03" and strange["unseen"] == 1
    (alone,) = run.predict(["item 03|item 04|item 05"])  # as a table writes it
    assert [entry["item"] for entry in alone["items"]] == [entry["item"] for entry in known["items"]]
    assert [entry["score"] for entry in alone["items"]] == pytest.approx(scores, abs=1e-5)
    (most,) = run.predict({"history": [[f"item {place:02d}" for place in range(ITEMS - 1)]]})
    assert [entry["item"] for entry in most["items"]] == [f"item {ITEMS - 1:02d}"]  # nothing else is left
    (nothing,) = run.predict({"history": [[f"item {place:02d}" for place in range(ITEMS)]]})
    assert nothing["items"] == []


def test_a_bundle_answers_as_the_run_does(run, tmp_path):
    folder = suite.export(run.folder, to=tmp_path / "bundle").folder
    asked = {"history": [["item 03", "item 04"], ["item 07"], []]}
    assert alike(suite.open(folder).predict(asked), run.predict(asked))
    assert f"Protocol: {task_of(run).protocol}." in (folder / "model_card.md").read_text()


PROTOCOL = (
    "loss: cross-entropy over all items; candidates: all 12 items of the training split but those of the user&#39;s "
    "history; split: leave_last_out; learnt from: train; k: 5, 10, 20, 50"
)


def test_the_report_shows_users_popularity_and_protocol(run, tmp_path):
    page = suite.report(run.folder).read_text()
    assert "How popular is what is recommended?" in page
    assert "Are rare items found?" in page and "least popular: " in page
    assert PROTOCOL in page


def test_the_protocol_stands_beside_each_result(run, tmp_path, capsys):
    plain = PROTOCOL.replace("&#39;", "'")
    run.evaluate("test")
    assert f"protocol: {plain}" in capsys.readouterr().err
    shutil.copytree(run.folder, tmp_path / "other")
    comparison = comparisons.compare([run.folder, tmp_path / "other"], "test")
    assert plain in side_by_side.render(comparison)
    page = tmp_path / "comparison.html"
    side_by_side.save(comparison, page)
    assert "1 → items" in page.read_text() and "2 → items" in page.read_text()
    sampled = dataclasses.replace(task_of(run), negatives=256)
    assert "cross-entropy over 256 shared negatives" in sampled.protocol


def test_a_last_training_learns_from_validation_too(run):
    """Each user's validation item ends the training record, and it is said that its figures say nothing."""
    plain, refit = task_of(run), task_of(run, refit=True)
    before, after = (task.source("train")[np.arange(3)]["events"] for task in (plain, refit))
    held_out = plain.source("validation")[np.arange(3)]["items"]
    assert after == [[*events, *items] for events, items in zip(before, held_out, strict=True)]
    assert refit.source("test")[np.arange(3)] == plain.source("test")[np.arange(3)]
    splits = {"validation": refit.source("validation")}
    assert any("task.refit" in line for line in refit.remarks(splits))
    assert not any("task.refit" in line for line in plain.remarks(splits))
    assert "learnt from: train and validation" in refit.protocol


def test_recall_is_counted_by_thirds_of_the_training_events():
    """Ten events: the first item has a third of them, the next two the second, the others the last."""
    counts = np.array([4, 2, 2, 1, 1])
    assert popularity_thirds(counts).tolist() == [0, 1, 1, 2, 2]
    wanted = [np.array([0, 3]), np.array([2]), np.array([4])]
    top = np.full((3, 50), -2)
    top[0, :2], top[1, 6], top[2, 49] = [3, 1], 2, 4
    shares = recall_by_popularity(counts, wanted, top, unknown=2)
    assert shares.counts.tolist() == [1, 1, 2, 2]
    assert shares.happened.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 2], [0, 0, 0, 0]]
    assert (shares + shares).happened.tolist() == (2 * shares.happened).tolist()
    assert shares.groups[1] == "in between: 2 items, 2 to 2 training events each"


def task_of(run, **changes) -> SequentialRecommendation:
    return dataclasses.replace(suite.open(run.folder).experiment.task, **changes)


def test_baselines_rank_the_same_catalogue(run):
    task = task_of(run)
    measured = measure(task, task.source("train"), task.source("test"))
    values = {one.name: one.scores.values() for one in measured}
    assert list(values) == ["most popular", "item cosine, recent items first"]
    assert values["item cosine, recent items first"]["mrr_5"] > values["most popular"]["mrr_5"] > 0
    ours = {name.removeprefix("test/") for name in run.evaluate("test").metrics}
    assert set(values["most popular"]) <= ours  # so that each can be compared


def test_items_are_counted_from_the_training_events(run):
    items = task_of(run).items
    assert len(items.names) == ITEMS and sorted(items.counts.tolist(), reverse=True) == items.counts.tolist()
    assert items.sizes() == {"vocab_size": FIRST + ITEMS}
    known, unknown = items.numbers([["item 00", "other"], []])
    assert [len(row) for row in known] == [1, 0] and unknown.tolist() == [1, 0]


def test_a_history_is_read_from_its_end(run):
    codec = task_of(run, max_length=2).codec
    encoded = codec.encode({"history": [["item 01", "item 02", "item 03"]]})
    numbers = codec.items.numbers([["item 02", "item 03"]])[0][0]
    assert encoded["items"].values.tolist() == [BEGINNING, *numbers]
    assert encoded["seen"].lengths.tolist() == [3]  # what was had is left out, however long ago


SIZES = {"vocab_size": FIRST + ITEMS, "width": 8, "dropout": 0.0}
BODIES = [
    decoder.Config(**SIZES, layers=1, heads=2, attention_dropout=0.0, max_length=16),
    gru.Config(**SIZES, state=8),
]
"""A small model of each family."""


@pytest.mark.parametrize("config", BODIES)
def test_losses_by_parts_and_by_negatives_are_the_cross_entropy(run, config, monkeypatch):
    """Of so many negatives that each item is drawn in proportion, the sampled loss is the exact one."""
    task = task_of(run)
    model = config.build(rngs=nnx.Rngs(0))
    items = RNG.integers(FIRST, FIRST + ITEMS, (3, 6)).astype(np.int32)
    batch = {"items": items, "items_mask": np.arange(6) < np.array([[6], [4], [2]]), "mask": np.array([1, 1, 0], bool)}
    loss, states = task.loss(model, batch, None)
    logits = np.asarray(model(items[:, :-1], batch["items_mask"][:, :-1]), np.float64)[..., FIRST:]
    log_probabilities = np.asarray(jax.nn.log_softmax(logits))
    picked = np.take_along_axis(log_probabilities, items[:, 1:, None] - FIRST, 2)[..., 0]
    real = batch["items_mask"][:, 1:] & batch["mask"][:, None]
    assert float(loss) == pytest.approx(-picked[real].mean(), rel=1e-5)
    assert float(states["loss"].count) == real.sum() == 8
    monkeypatch.setattr(sequence, "ROWS", 4 * (FIRST + ITEMS))  # four rows at a time
    assert float(task.loss(model, batch, None)[0]) == pytest.approx(float(loss), rel=1e-6)
    sampled = dataclasses.replace(task, negatives=100_000).loss(model, batch, nnx.Rngs(0))[0]
    assert float(sampled) == pytest.approx(float(loss), rel=0.02)


@pytest.mark.parametrize("body", BODIES)
def test_the_tags_of_an_item_are_added_to_its_vector(run, body, tmp_path):
    """At both ends: a table with the tags in it, and no tags, has the same loss and ranks the same items."""
    (tmp_path / "items.csv").write_text("item,tags\nitem 00,new|red\nitem 03,red\nitem 99,blue\n")
    plain = task_of(run)
    tags = ItemTags(data=Table(path=str(tmp_path / "items.csv")))
    tags.fit(plain.source("train"), "events", tmp_path / "tags.json")
    tagged = dataclasses.replace(plain, tags=dataclasses.replace(tags, file=str(tmp_path / "tags.json")))
    config = Parts(parts={"sequence": body, "tags": tags_model.Config(width=8, **tagged.tags.sizes())})
    model = config.build(rngs=nnx.Rngs(0))
    vectors = {
        name: np.asarray(tagged.item_vectors(model))[number] for number, name in enumerate(plain.items.names, FIRST)
    }
    own = np.asarray(model.sequence.output_table())
    red, new = np.asarray(model.tags.table.embedding[...])  # by frequency
    (numbers,), _ = plain.items.numbers([["item 00", "item 03", "item 05"]])
    np.testing.assert_allclose(vectors["item 00"], own[numbers[0]] + (red + new) / 2, rtol=1e-5)
    np.testing.assert_allclose(vectors["item 03"], own[numbers[1]] + red, rtol=1e-5)
    np.testing.assert_allclose(vectors["item 05"], own[numbers[2]], rtol=1e-5)
    items = RNG.integers(FIRST, FIRST + ITEMS, (3, 6)).astype(np.int32)
    batch = {"items": items, "items_mask": np.arange(6) < np.array([[6], [4], [2]]), "mask": np.array([1, 1, 0], bool)}
    request = {**batch, "seen": items, "seen_mask": batch["items_mask"], "unseen": np.zeros(3, np.int32)}
    loss, answers = tagged.loss(model, batch, None)[0], tagged.predict(model, request)
    model.sequence.tokens.embedding[...] = tagged.item_vectors(model)
    assert float(plain.loss(model.sequence, batch, None)[0]) == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_array_equal(plain.predict(model.sequence, request)["top"], answers["top"])


def test_a_gru_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    model = gru.Config(vocab_size=9, width=5, state=7, layers=2, dropout=0.0).build(rngs=nnx.Rngs(0))
    theirs = torch.nn.GRU(5, 7, 2, batch_first=True)
    for place, layer in enumerate(model.layers):
        for name, linear in (("ih", layer.inputs), ("hh", layer.state)):
            linear.bias[...] = jnp.asarray(RNG.normal(size=linear.bias.shape), jnp.float32)
            getattr(theirs, f"weight_{name}_l{place}").data = torch.tensor(np.asarray(linear.kernel[...]).T)
            getattr(theirs, f"bias_{name}_l{place}").data = torch.tensor(np.asarray(linear.bias[...]))
    tokens = RNG.integers(0, 9, (3, 6))
    given = torch.tensor(np.asarray(model.tokens(tokens)))
    states = theirs(given)[0].detach().numpy() @ np.asarray(model.out.kernel[...]) + np.asarray(model.out.bias[...])
    ours = np.asarray(model.hidden(tokens, np.ones((3, 6), bool)))
    np.testing.assert_allclose(ours, states, rtol=1e-4, atol=1e-5)
    padded = np.asarray(model.hidden(np.pad(tokens, ((0, 0), (0, 2))), np.arange(8) < np.full((3, 1), 6)))
    np.testing.assert_allclose(padded[:, :6], ours, rtol=1e-5, atol=1e-6)


def test_an_items_file_needs_two_items(tmp_path):
    with pytest.raises(suite.InputError, match="only one item"):
        source = Table(path=str(log(tmp_path / "log.csv", 1)))
        task = SequentialRecommendation(data=source, user="who", item="who", time="when")
        Items().fit(task.source("train"), "events", tmp_path / "items.json")
