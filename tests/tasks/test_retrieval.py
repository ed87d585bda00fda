"""Retrieval: vectors of users and items, their losses, and answers for whom and what training had not."""

import csv
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import suite
from suite.data.pipeline.padding import pad, padded_lengths
from suite.data.preprocessing.attributes import Attributes
from suite.data.preprocessing.interactions import Interactions
from suite.data.preprocessing.items import FIRST
from suite.data.sources.datasets import Table
from suite.data.sources.events import EventSplit
from suite.data.sources.memory import Memory
from suite.evaluation.baselines import measure
from suite.experiment import recipes, sections
from suite.models import lightgcn, tower
from suite.models.lightgcn import Graph
from suite.models.parts import Parts
from suite.tasks.recommendation import retrieve

RNG = np.random.default_rng(0)
ITEMS, GENRES = 24, 4


def write(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Users who have items of one genre, some events twice; a table of items, of which four are new."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(1)
    events = [["who", "what"]]
    for user in range(48):
        own = rng.permutation(np.arange(user % GENRES, ITEMS, GENRES))[:5]
        events += [[f"user {user}", f"item {item}"] for item in (*own, own[0])]
    items = [["what", "genres"], *([f"item {item}", f"g{item % GENRES}|all"] for item in range(ITEMS + 4))]
    users = [["who", "club"], *([f"user {user}", f"c{user % GENRES}"] for user in range(48))]
    return {name: write(folder / name, rows) for name, rows in (("events", events), ("items", items), ("users", users))}


@pytest.fixture(scope="module")
def run(tables, tmp_path_factory):
    recipe = recipes.load("recommendation.retrieve", smoke=True)
    changes = {
        "task.data": Table(path=tables["events"]),
        "task.user": "who",
        "task.item": "what",
        "task.item_attributes.data": Table(path=tables["items"]),
        "task.user_attributes.data": Table(path=tables["users"]),
        "task.top": 5,
        "train.steps": 60,
        "train.log_every": 20,
        "train.loggers": (),
        "train.baseline": False,
        "optim.learning_rate": 2e-2,
    }
    return suite.train(sections.replace(recipe, changes), tmp_path_factory.mktemp("retrieval") / "run")


def genres(answer):
    return [int(entry["item"].split()[1]) % GENRES for entry in answer["items"]]


def names(answer):
    return {entry["item"] for entry in answer["items"]}


def task_of(run, **changes):
    return dataclasses.replace(suite.open(run.folder).experiment.task, **changes)


def test_held_out_items_are_found(run):
    metrics = run.evaluate("test").metrics
    assert metrics["test/recall_5"] > 0.6 and metrics["test/coverage_10"] == 1


def test_a_known_user_is_answered_by_its_own_vector_and_what_it_had_is_left_out(run):
    had = run.experiment.task.pairs.had
    row = had.user_rows["user 5"]
    own = {had.items[item] for item in had.rows[had.starts[row] : had.starts[row + 1]]}
    (answer,) = run.predict({"who": ["user 5"]})
    assert answer["basis"] == "user" and len(answer["items"]) == 5 and not own & names(answer)
    assert genres(answer)[0] == 1
    (less,) = run.predict({"who": ["user 5"], "history": [[answer["items"][0]["item"]]]})
    assert answer["items"][0]["item"] not in names(less)  # what it had since


def test_a_new_user_is_answered_by_the_history(run):
    known, strange = run.predict(
        {"who": ["nobody", None], "history": [["item 2", "item 6"], ["item 3", "no such item"]]}
    )
    assert known["basis"] == "history" and known["unseen"] == 0 and genres(known)[:3] == [2, 2, 2]
    assert not {"item 2", "item 6"} & names(known)
    assert strange["unseen"] == 1 and genres(strange)[0] == 3
    (alone,) = run.predict(["item 2|item 6"])  # as a table writes it
    assert [entry["item"] for entry in alone["items"]] == [entry["item"] for entry in known["items"]]


def test_a_new_user_is_answered_by_attributes(run):
    alone, both = run.predict({"club": ["c1", "c1"], "history": [[], ["item 1"]]})
    assert alone["basis"] == "attributes" and genres(alone)[0] == 1
    assert both["basis"] == "history and attributes" and "item 1" not in names(both)


def test_of_whom_nothing_is_known_what_is_popular_is_answered(run):
    answer, other = run.predict({"who": [None, "nobody"], "history": [[], ["no such item"]]})
    assert answer["basis"] == other["basis"] == "popularity" and other["unseen"] == 1
    items = run.experiment.task.items
    assert [entry["item"] for entry in answer["items"]] == items.names[:5]
    assert items.counts[:5].min() >= items.counts[5:].max()


def test_a_new_item_is_ranked_by_its_attributes(run):
    task = run.experiment.task
    new = [f"item {ITEMS + place}" for place in range(4)]
    assert set(new) <= set(task.items.names) and (task.pairs.item_rows(new) == -1).all()
    (answer,) = run.predict({"history": [["item 2", "item 6", "item 10", "item 14", "item 18"]]})
    assert "item 26" in names(answer)


def test_an_item_that_is_removed_is_not_recommended(run):
    """Of a catalogue without it, whose numbers are others; users who had it are still known."""
    task = task_of(run)
    file = json.loads(Path(task.items.file).read_text())
    gone = file["names"].pop(0)
    file["counts"].pop(0)
    shorter = run.folder / "shorter.json"
    shorter.write_text(json.dumps(file))
    less = dataclasses.replace(task, items=dataclasses.replace(task.items, file=str(shorter)))
    owner = next(name for name in task.pairs.had.users if gone in had_by(task, name))
    before, after = (one.codec.encode({"who": [owner]}) for one in (task, less))
    assert after["seen"].lengths[0] == before["seen"].lengths[0] - 1 and (after["seen"].values >= FIRST).all()
    assert {file["names"][number - FIRST] for number in after["seen"].values} == had_by(task, owner) - {gone}
    assert less.codec.encode({"history": [[gone]]})["unseen"].tolist() == [1]
    assert gone not in less.reference("predict").column("what", np.arange(len(file["names"]))).tolist()


def had_by(task, user):
    had = task.pairs.had
    row = had.user_rows[user]
    return {had.items[item] for item in had.rows[had.starts[row] : had.starts[row + 1]]}


def test_an_event_that_is_there_twice_counts_once(run):
    task = task_of(run)
    train = task.source("train")
    pairs = list(
        zip(train.column("user", np.arange(len(train))), train.column("events", np.arange(len(train))), strict=True)
    )
    assert len(pairs) == len({(user, *row) for user, row in pairs}) == len(task.pairs.had.rows)
    assert train.dropped["events of a user and an item that came before"] > 0


def test_a_bundle_answers_as_the_run_does(run, tmp_path):
    folder = suite.export(run.folder, to=tmp_path / "bundle").folder
    asked = {"who": ["user 3", None, "x"], "history": [None, ["item 2"], []], "club": [None, None, "c2"]}
    for ours, theirs in zip(run.predict(asked), suite.open(folder).predict(asked), strict=True):
        assert [one["item"] for one in ours["items"]] == [one["item"] for one in theirs["items"]]
        # A bundle's catalogue has room for more items, and sums round otherwise.
        scores = ([one["score"] for one in answer["items"]] for answer in (ours, theirs))
        np.testing.assert_allclose(*scores, atol=2e-6)
        assert {**ours, "items": []} == {**theirs, "items": []}


def test_the_report_shows_users_and_popularity(run):
    page = suite.report(run.folder).read_text()
    assert "How popular is what is recommended?" in page


def test_baselines_rank_the_same_catalogue(run):
    task = task_of(run)
    measured = measure(task, task.source("train"), task.source("test"))
    values = {one.name: one.scores.values() for one in measured}
    assert list(values) == ["most popular", "attribute cosine", "item cosine"]
    assert values["attribute cosine"]["recall_10"] > 0.9 > values["most popular"]["recall_10"]


def test_items_that_are_held_out_whole_are_ranked_among_each_other(run, tmp_path):
    split = EventSplit(by="cold_items", validation=0.2, test=0.3)
    task = task_of(run, split=split)
    for name in ("pairs", "items"):
        own = dataclasses.replace(getattr(task, name), file=str(tmp_path / name))
        own.fit(task.source("train"), "events", tmp_path / name)
        task = dataclasses.replace(task, **{name: own})
    assert len(task.items.names) == ITEMS + 4
    held = {name for name, part in zip(task.items.names, split.parts(task.items.names), strict=True) if part == 2}
    test, train = task.source("test"), task.source("train")
    assert {item for row in test.column("items", np.arange(len(test))) for item in row} <= held
    assert not held & {item for row in train.column("events", np.arange(len(train))) for item in row}
    catalogue = task.reference("test")
    every = np.arange(len(catalogue))
    assert set(np.array(task.items.names)[catalogue.column("ranked", every)]) == held
    assert task.reference("predict").column("ranked", every).all()
    assert "candidates: the items that the split holds out whole; split: cold_items" in task.protocol
    (cosine,) = measure(task, train, test)
    assert cosine.name == "attribute cosine" and cosine.scores.values()["recall_5"] > 0.9


def batch_of(task, rows):
    """Pairs of training as a batch, the last row of which is padding."""
    indices = np.arange(rows - 1)
    encoded = task.encode(task.source("train")[indices])
    return pad(encoded, np.arange(rows) < rows - 1, padded_lengths(encoded, ()), indices)


def plain(model, task):
    unit = lambda table: table / np.linalg.norm(table, axis=1, keepdims=True)
    return (unit(np.asarray(getattr(model, side).own.embedding[...], np.float64)) for side in ("user", "item"))


def bare(run, **changes):
    """The task without attributes, and towers of its size."""
    nothing = {
        f"{side}_attributes": Attributes(column=side, file=str(run.folder / "none.json")) for side in ("item", "user")
    }
    nothing["item_attributes"].fit(Memory({"x": [1]}), "what", run.folder / "none.json")
    task = task_of(run, **nothing, **changes)
    sizes = task.pairs.sizes()
    parts = {side: tower.Config(rows=sizes[f"{side}.rows"], width=4, scale=1.0) for side in ("user", "item")}
    return task, parts


def test_the_softmax_over_all_items_leaves_out_what_the_user_had(run):
    task, parts = bare(run, negatives="all", temperature=0.5)
    model = Parts(parts=parts).build(rngs=nnx.Rngs(0))
    had = task.pairs.had
    users, items = plain(model, task)
    for rows in (5, 120):  # more rows than users: each user is scored once
        batch = batch_of(task, rows)
        loss, _ = task.loss(model, batch, None)
        scores = np.exp(users[batch["user_ids"][:, 0]] @ items[: len(had.items)].T / 0.5)
        for place, (user, item) in enumerate(zip(batch["user_ids"][:, 0], batch["item_ids"][:, 0], strict=True)):
            own = had.rows[had.starts[user] : had.starts[user + 1]]
            scores[place, own[own != item]] = 0
        picked = scores[np.arange(rows), batch["item_ids"][:, 0]] / scores.sum(1)
        assert float(loss) == pytest.approx(-np.log(picked)[batch["mask"]].mean(), rel=1e-5)


@pytest.mark.parametrize("looked_up", [True, False])
def test_the_softmax_in_the_batch_is_corrected_by_frequency(run, monkeypatch, looked_up):
    if not looked_up:  # as of very many users and items: other items of the user are then those of the batch
        monkeypatch.setattr(retrieve, "_bits", lambda file: None)
    task, parts = bare(run, temperature=0.5)
    model = Parts(parts=parts).build(rngs=nnx.Rngs(0))
    users, items = plain(model, task)
    rows, had = 40, task.pairs.had
    batch = batch_of(task, rows)
    user, item, mask = batch["user_ids"][:, 0], batch["item_ids"][:, 0], batch["mask"]
    logits = users[user] @ items[item].T / 0.5 - np.log(had.counts / had.counts.sum())[item]
    losses = []
    for row in np.flatnonzero(mask):
        own = set(had.rows[had.starts[user[row]] : had.starts[user[row] + 1]].tolist()) if looked_up else set()
        others = [
            i for i in np.flatnonzero(mask) if i == row or (item[i] not in {*own, item[row]} and user[i] != user[row])
        ]
        losses.append(np.log(np.exp(logits[row, others]).sum()) - logits[row, row])
    assert float(task.loss(model, batch, None)[0]) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("drawn", [1, 3])
def test_bpr_compares_with_the_hardest_of_items_that_the_user_had_not(run, drawn):
    task, parts = bare(run, objective="bpr", drawn=drawn, l2=0.1)
    model = Parts(parts=parts).build(rngs=nnx.Rngs(0))
    encoded = task.encode(task.source("train")[np.arange(60)], np.random.default_rng(0))
    had = task.pairs.had
    keys = set(had.keys.tolist())
    pairs = encoded["user_ids"].astype(np.int64) * len(had.items) + encoded["item_ids"]
    assert pairs.shape == (60, 1 + drawn) and all(key in keys for key in pairs[:, 0].tolist())
    assert not any(key in keys for key in pairs[:, 1:].ravel().tolist())
    batch = {**encoded, "mask": np.ones(60, bool)}
    users, items = (np.asarray(getattr(model, side).own.embedding[...], np.float64) for side in ("user", "item"))
    user, item = users[encoded["user_ids"][:, 0]], items[encoded["item_ids"]]
    scores = np.einsum("bd,bkd->bk", user, item)
    hardest = 1 + scores[:, 1:].argmax(1)
    other = item[np.arange(60), hardest]
    losses = np.log1p(np.exp(scores[np.arange(60), hardest] - scores[:, 0]))
    losses += 0.1 * ((user**2).sum(1) + (item[:, 0] ** 2).sum(1) + (other**2).sum(1))
    assert float(task.loss(model, batch, None)[0]) == pytest.approx(losses.mean(), rel=1e-5)


def test_bpr_of_attributes_compares_with_the_next_pair(run):
    task = task_of(run, objective="bpr")
    model = suite.open(run.folder).model
    encoded = task.encode(task.source("train")[np.arange(40)], np.random.default_rng(0))
    batch = pad(encoded, np.ones(40, bool), padded_lengths(encoded, ()), np.arange(40))
    had = task.pairs.had
    user, item = batch["user_ids"][:, 0], batch["item_ids"][:, 0]
    other = np.roll(np.arange(40), -1)
    keys = set(had.keys.tolist())
    open_ = [int(u) * len(had.items) + int(i) not in keys for u, i in zip(user, item[other], strict=True)]
    loss, states = task.loss(model, batch, None)
    assert float(states["loss"].count) == sum(open_) > 0 and np.isfinite(float(loss))


def test_vectors_made_of_the_whole_catalogue_are_those_made_of_the_batch(run):
    task, model = task_of(run), suite.open(run.folder).model
    rows = task.source("train")[np.arange(40)]
    losses = []
    for one in (task, dataclasses.replace(task, whole=True)):
        encoded = one.encode(rows)
        batch = pad(encoded, np.ones(40, bool), padded_lengths(encoded, ()), np.arange(40))
        losses.append(float(one.loss(model, batch, None)[0]))
    assert "item_features" not in encoded and losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_profile_is_the_mean_of_the_users_other_items(run):
    task, parts = bare(run, whole=True, profile=True, temperature=0.5)
    model = Parts(parts=parts).build(rngs=nnx.Rngs(0))
    users, items = plain(model, task)
    rows, had = 30, task.pairs.had
    batch = batch_of(task, rows)
    user, item = batch["user_ids"][:, 0], batch["item_ids"][:, 0]
    unit = lambda vectors: vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    own = [had.rows[had.starts[one] : had.starts[one + 1]] for one in user]
    others = np.stack([items[mine[mine != one]].sum(0) for mine, one in zip(own, item, strict=True)])
    expected = unit(users[user] + unit(others))
    profiled = task._profiled(jnp.asarray(users[user]), jnp.asarray(items), batch, 0.5, None)
    np.testing.assert_allclose(profiled[:-1], expected[:-1], rtol=1e-4, atol=1e-5)  # the last is padding
    assert np.isfinite(float(task.loss(model, batch, nnx.Rngs(0))[0]))
    with pytest.raises(suite.InputError, match=r"--task\.whole True"):
        dataclasses.replace(task, whole=False)


def test_vectors_are_passed_as_by_the_matrix_of_pairs(run):
    """Also backwards; and what the last step gave is what answers."""
    task, parts = bare(run, negatives="all")
    model = lightgcn.Config(parts=parts, layers=2).build(rngs=nnx.Rngs(0))
    had = task.pairs.had
    users, items = (np.asarray(getattr(model, side).own.embedding[...], np.float64) for side in ("user", "item"))
    matrix = np.zeros((len(users), len(items)))
    matrix[had.owners, had.rows] = 1
    matrix /= np.sqrt(np.maximum(matrix.sum(1), 1))[:, None] * np.sqrt(np.maximum(matrix.sum(0), 1))[None]
    graph = Graph(had.owners, had.rows)
    passed = model.passed(graph)
    twice = matrix @ (matrix.T @ users), matrix.T @ (matrix @ items)
    np.testing.assert_allclose(passed[0], (users + matrix @ items + twice[0]) / 3, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(passed[1], (items + matrix.T @ users + twice[1]) / 3, rtol=1e-4, atol=1e-5)
    weights = RNG.normal(size=users.shape).astype(np.float32)
    by_items = jax.grad(lambda items: (graph.passed(jnp.asarray(users, jnp.float32), items)[0] * weights).sum())(
        jnp.asarray(items, jnp.float32)
    )
    np.testing.assert_allclose(by_items, matrix.T @ weights, rtol=1e-4, atol=1e-5)
    task.loss(model, batch_of(task, 6), nnx.Rngs(0))
    catalogue = task.reference("test")
    arrays = task.embed(model, task.catalogue.encode(catalogue[np.arange(len(catalogue))]))
    row = task.pairs.item_rows(task.items.names[:1])[0]
    unit = np.asarray(passed[1][row]) / np.linalg.norm(passed[1][row])
    np.testing.assert_allclose(arrays["vector"][0], unit, rtol=1e-4)


def test_models_that_read_rows_of_the_batch_alone_do_not_rank_all_items(run):
    task, parts = bare(run, negatives="all")
    model = Parts(parts=parts).build(rngs=nnx.Rngs(0))
    model.user.own.embedding = nnx.Param(jnp.zeros((3, 1, 4)))
    with pytest.raises(suite.InputError, match=r"--optim\.tables dense"):
        task.loss(model, batch_of(task, 4), None)


def test_own_vectors_are_dropped_where_attributes_say_something():
    config = tower.Config(rows=8, features=8, width=4, id_dropout=0.999, scale=1.0)
    model = config.build(rngs=nnx.Rngs(0))
    ids, features = jnp.array([[1], [2]]), jnp.array([[3, 4], [0, 0]])
    mask = jnp.array([[True, True], [False, False]])
    weights = jnp.ones((2, 2))
    vectors = model(ids, features, weights, mask, rngs=nnx.Rngs(dropout=1))
    np.testing.assert_allclose(vectors[0, 0], model.attributes.embedding[...][3:5].sum(0), rtol=1e-6)
    np.testing.assert_allclose(vectors[1, 0], model.own.embedding[...][2], rtol=1e-6)
    new = model(jnp.array([[-1]]), features[:1], weights[:1], mask[:1])
    np.testing.assert_allclose(new[0, 0], model.attributes.embedding[...][3:5].sum(0), rtol=1e-6)


@pytest.fixture
def films(tmp_path):
    rows = [["film", "genres", "title", "year", "country"]]
    for place in range(40):
        rows.append(
            [
                f"f{place}",
                f"g{place % 3}|all",
                f"The {('red', 'blue')[place % 2]} house {place}",
                1960 + place,
                "ab"[place % 2],
            ]
        )
    rows += [["f0", "other", "again", 1, "a"], ["", "g1", "nameless", 1, "a"]]
    return write(tmp_path / "films.csv", rows)


def test_attributes_are_weighted_by_inverse_document_frequency(films, tmp_path, capsys):
    how = Attributes(
        path=films, id="film", lists=("genres",), texts=("title",), numbers=("year",), file=str(tmp_path / "a")
    )
    how.fit(Memory({"x": [1]}), "item", tmp_path / "a")
    said = capsys.readouterr().err
    assert "1 left out, no item" in said and "1 left out, an item that stands there before" in said
    assert {column.name: column.kind for column in how.columns}["genres"] == "list"
    rows, weights = how.named(["f4", "no such film", "f0"])
    assert rows.lengths[1] == 0 and len(rows.values) == len(weights.values) == rows.lengths.sum()
    columns = {"genres": ["g1|all"], "title": ["the RED house"], "year": [1964], "country": ["a"]}
    again, same = how.encode(columns)
    np.testing.assert_array_equal(again.values, rows.values[: rows.lengths[0]])
    np.testing.assert_allclose(same.values, weights.values[: rows.lengths[0]])
    values = how.values
    idf = {"all": np.log(41 / 41) + 1, "g1": np.log(41 / 14) + 1}
    genre = how.encode({"genres": ["g1|all"]})[1].values
    np.testing.assert_allclose(sorted(genre), np.array([idf["all"], idf["g1"]]) / np.hypot(*idf.values()), rtol=1e-5)
    assert values["genres"][0] == "all" and "house" in values["title"] and len(values["year"]) == 8
    assert how.encode({"genres": ["nothing known"]})[0].lengths.tolist() == [0]


def test_attributes_that_are_not_there_are_named(films, tmp_path):
    with pytest.raises(suite.InputError, match=r"--task\.item_attributes\.id film"):
        Attributes(path=films).fit(Memory({"x": [1]}), "films", tmp_path / "a")
    with pytest.raises(suite.InputError, match=r"--task\.item_attributes\.lists genres"):
        Attributes(path=films, id="film", lists=("genre",)).fit(Memory({"x": [1]}), "films", tmp_path / "a")


def test_a_user_who_had_everything_is_compared_with_anything(tmp_path):
    source = Memory({"user": ["a", "a", "b"], "events": [["x"], ["y"], ["x"]]})
    pairs = Interactions(file=str(tmp_path / "pairs.json"))
    pairs.fit(source, "events", tmp_path / "pairs.json")
    drawn = pairs.others(np.array([0, 1, 1]), 5, np.random.default_rng(0))
    assert drawn.shape == (3, 5) and (drawn[1:] == pairs.had.item_rows["y"]).all()
