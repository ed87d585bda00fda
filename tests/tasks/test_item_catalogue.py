"""Catalogues of recommendation: items are removed, allowed again, and described anew, without training."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import suite
from suite.data.preprocessing.items import FIRST
from suite.data.sources.datasets import Table
from suite.evaluation import recommendation
from suite.evaluation.recommendation import best_items
from suite.experiment import recipes
from tests.tasks.test_recommendation import ITEMS, log
from tests.untrained import untrained

NAMES = [f"item {number:02d}" for number in range(ITEMS)]


@pytest.mark.parametrize("block", [1 << 13, 8])
def test_a_program_ranks_any_number_of_items(monkeypatch, block):
    monkeypatch.setattr(recommendation, "SMALL_BLOCK", block)
    rng = np.random.default_rng(0)
    b, n = jax.export.symbolic_shape("b, n")
    shapes = [jax.ShapeDtypeStruct((b, 2), "float32"), jax.ShapeDtypeStruct((n, 2), "float32")]
    seen = jax.ShapeDtypeStruct((b, 4), "int32")
    ranked = lambda users, vectors, seen: best_items(users, jnp.pad(vectors, ((FIRST, 0), (0, 0))), seen, 5)
    program = jax.export.export(jax.jit(ranked))(*shapes, seen)
    for count in (1, 4, 5, 30):
        users = rng.integers(-2, 3, (3, 2)).astype(np.float32)
        vectors = rng.integers(-2, 3, (count, 2)).astype(np.float32)  # many equal scores
        seen = np.where(rng.random((3, 4)) < 0.7, rng.integers(FIRST, FIRST + count, (3, 4)), 0).astype(np.int32)
        items, scores = map(np.asarray, program.call(users, vectors, seen))
        padded = np.concatenate([np.full((FIRST, 2), np.nan, np.float32), vectors])
        wanted, best = map(np.asarray, best_items(users, jnp.asarray(padded), seen, min(5, count)))
        real = np.isfinite(best)
        np.testing.assert_array_equal(np.isfinite(scores)[:, : min(5, count)], real)
        assert not np.isfinite(scores[:, count:]).any()
        np.testing.assert_array_equal(items[:, : min(5, count)][real], wanted[real])


def experiment(folder, recipe="recommendation.sequence", **changes):
    recipe = recipes.load(recipe, smoke=True)
    log(folder / "log.csv")
    fields = {"data": Table(path=str(folder / "log.csv")), "user": "who", "item": "what", "time": "when", "top": 3}
    return suite.replace(recipe, {**{f"task.{name}": value for name, value in fields.items()}, **changes})


def test_items_of_a_sequence_are_removed_and_allowed_again(tmp_path):
    run = untrained(experiment(tmp_path), tmp_path / "run")
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    table = np.asarray(run.experiment.task.item_vectors(run.model))[FIRST:]
    np.testing.assert_array_equal(run.reference_arrays["vector"], table)
    asked = {"history": [["item 03", "item 04"], [], ["item 05", "no item"]]}
    before = bundle.predict(asked)
    best = before[1]["items"][0]["item"]
    kept = [name for name in reversed(NAMES) if name != best]
    (tmp_path / "fewer.csv").write_text("\n".join(["what", *kept, "item 99", kept[0]]))
    fewer, embedded = suite.replace_catalogue(bundle.folder, tmp_path / "fewer.csv", tmp_path / "fewer")
    assert embedded.names == kept
    assert embedded.left_out.lines() == [
        f"1 left out, its what is that of a record before: {kept[0]}",
        '1 left out, column "what": training had no such item, and has learnt nothing of it.: item 99',
    ]
    (answer,) = fewer.predict({"history": [[]]})
    assert [one["item"] for one in answer["items"][:2]] == [one["item"] for one in before[1]["items"][1:]]
    for answer, history in zip(fewer.predict(asked), asked["history"], strict=True):
        shown = {one["item"] for one in answer["items"]}
        assert not shown & {best, *history}, "neither what was removed nor what was seen"
    assert fewer.predict(asked)[2]["unseen"] == 1
    removed = fewer.predict({"history": [[best, "item 03"]]})
    assert removed[0]["unseen"] == 0, "the model knows what is no longer recommended"
    (tmp_path / "all.csv").write_text("\n".join(["what", *run.experiment.task.items.names]))
    again, _ = suite.replace_catalogue(fewer.folder, tmp_path / "all.csv", tmp_path / "again")
    assert again.predict(asked) == before
    (tmp_path / "two.csv").write_text("\n".join(["what", *NAMES[:2]]))
    two, _ = suite.replace_catalogue(fewer.folder, tmp_path / "two.csv", tmp_path / "two")
    assert len(two.predict({"history": [[]]})[0]["items"]) == 2, "fewer items than an answer has places"


def test_tags_describe_new_items_of_a_sequence(tmp_path):
    (tmp_path / "items.csv").write_text("item,tags\nitem 00,new|red\nitem 03,red\n")
    tags = {"task.tags.data": Table(path=str(tmp_path / "items.csv"))}
    run = untrained(experiment(tmp_path, "recommendation.sequence_tags", **tags), tmp_path / "run")
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    table = np.asarray(run.experiment.task.item_vectors(run.model))[FIRST:]
    np.testing.assert_allclose(run.reference_arrays["vector"], table, rtol=1e-5, atol=1e-6)
    (tmp_path / "new.csv").write_text("what,tags\nitem 03,\nnewest,red\nworse,blue\nitem 05,new|blue\n")
    changed, embedded = suite.replace_catalogue(bundle.folder, tmp_path / "new.csv", tmp_path / "changed")
    assert embedded.names == ["item 03", "newest", "item 05"]
    assert embedded.left_out.lines() == [
        '1 left out, column "what": training had no such item, and none of its tags.: worse'
    ]
    number = dict(zip(run.experiment.task.items.names, range(ITEMS), strict=True))
    red, new = np.asarray(run.model.tags.table.embedding[...])
    expected = [table[number["item 03"]], red, table[number["item 05"]] + new]
    np.testing.assert_allclose(embedded.arrays["vector"], expected, rtol=1e-5, atol=1e-6)
    (answer,) = changed.predict({"history": [["item 03", "newest"]]})
    assert [one["item"] for one in answer["items"]] == ["item 05"] and answer["unseen"] == 1


def test_items_of_retrieval_that_are_new_removed_and_described(tmp_path):
    """An item that training had not has the vector of its attributes, in the ranking and in a history."""
    events = [
        ["who", "what"],
        *([f"user {user}", f"item {(user * 5 + step) % 9}"] for user in range(40) for step in range(4)),
    ]
    items = [["what", "genres"], *([f"item {item}", f"g{item % 3}|all"] for item in range(9))]
    for name, rows in (("events.csv", events), ("items.csv", items)):
        (tmp_path / name).write_text("".join(",".join(row) + "\n" for row in rows))
    tables = {name: Table(path=str(tmp_path / f"{name}.csv")) for name in ("events", "items")}
    fields = {
        "data": tables["events"],
        "user": "who",
        "item": "what",
        "top": 20,
        "item_attributes.data": tables["items"],
    }
    recipe = recipes.load("recommendation.retrieve", smoke=True)
    run = untrained(suite.replace(recipe, {f"task.{name}": value for name, value in fields.items()}), tmp_path / "run")
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    asked = {"history": [["item 1", "item 2"], []], "who": [None, "user 3"]}
    before = bundle.predict(asked)
    assert len(before[0]["items"]) == 7
    rows = [
        "what,genres,colour",
        "item 4,,red",
        "newest,g1|all,",
        "item 1,,",
        "strange,g9,",
        "twin,g1|all,",
        "item 4,g1,",
    ]
    (tmp_path / "new.csv").write_text("\n".join(rows))
    changed, embedded = suite.replace_catalogue(bundle.folder, tmp_path / "new.csv", tmp_path / "changed")
    assert embedded.names == ["item 4", "newest", "item 1", "twin"]
    assert embedded.left_out.lines() == [
        "1 left out, its what is that of a record before: item 4",
        '1 left out, column "what": training had no such item, and nothing that describes it.: strange',
    ]
    places = [run.experiment.task.items.names.index(name) for name in ("item 4", "item 1")]
    np.testing.assert_allclose(embedded.arrays["vector"][[0, 2]], run.reference_arrays["vector"][places], atol=1e-6)
    np.testing.assert_allclose(*embedded.arrays["vector"][[1, 3]], atol=1e-6)
    first, second = changed.predict(asked)
    assert {one["item"] for one in first["items"]} == {"item 4", "newest", "twin"} and first["unseen"] == 1
    scores = {one["item"]: one["score"] for one in second["items"]}
    assert scores["newest"] == pytest.approx(scores["twin"], abs=1e-5)
    (answer,) = changed.predict({"history": [["newest"]]})
    assert answer["unseen"] == 0 and answer["items"][0]["item"] == "twin", "known by its attributes alone"


def test_items_of_a_linear_model_are_removed_and_allowed_again(tmp_path):
    run = suite.train(experiment(tmp_path, "recommendation.linear"), tmp_path / "run")
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    asked = {"history": [["item 03", "item 04"], ["item 05"]]}
    before = bundle.predict(asked)
    best = before[0]["items"][0]["item"]
    (tmp_path / "fewer.csv").write_text("\n".join(["what", *[name for name in NAMES if name != best]]))
    fewer, embedded = suite.replace_catalogue(bundle.folder, tmp_path / "fewer.csv", tmp_path / "fewer")
    assert len(embedded) == ITEMS - 1
    first, _ = fewer.predict(asked)
    assert [one["item"] for one in first["items"][:2]] == [one["item"] for one in before[0]["items"][1:3]]
    (tmp_path / "all.csv").write_text("\n".join(["what", *run.experiment.task.items.names]))
    again, _ = suite.replace_catalogue(fewer.folder, tmp_path / "all.csv", tmp_path / "again")
    assert again.predict(asked) == before
    (tmp_path / "one.csv").write_text("what\nitem 07\n")
    one, _ = suite.replace_catalogue(fewer.folder, tmp_path / "one.csv", tmp_path / "one")
    assert [[item["item"] for item in answer["items"]] for answer in one.predict(asked)] == [["item 07"]] * 2
