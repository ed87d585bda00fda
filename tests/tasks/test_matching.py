"""Image-text matching: records of several texts, losses and ranks, closed form, kept vectors, both programs."""

import io
import json
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import suite
from suite.data.preprocessing.text import SentencePiece
from suite.data.sources.captions import PICTURES, CaptionArchive, gathered, part_of
from suite.data.sources.datasets import Memory, Table
from suite.errors import InputError
from suite.evaluation.contrast import unit
from suite.evaluation.correlation import canonical_correlation
from suite.evaluation.pairing import pairing_scores, pool_ranks, sigmoid_losses
from suite.experiment.defaults import settled
from suite.exporting import exporting
from suite.parallel.layout import Layout, laid_out
from suite.tasks.kept_vectors import Kept
from suite.workflow import explaining
from tests.conftest import simulated
from tests.tasks import matching_child
from tests.tasks.test_classes import bound
from tests.tasks.test_embedding import keys
from tests.untrained import untrained

B, K, D = 6, 2, 5
COLOURS = {"red": 0, "green": 1, "blue": 2}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Pictures of a colour, bright or dark, each with two or three texts in rows of their own."""
    folder, rng = tmp_path_factory.mktemp("captions"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    rows = []
    for place in range(36):
        name, level = list(COLOURS)[place % 3], ("dark", "bright")[place // 3 % 2]
        pixels = rng.integers(0, 40, (16, 16, 3), dtype=np.uint8)
        pixels[..., COLOURS[name]] = 110 + 110 * (level == "bright")
        Image.fromarray(pixels).save(folder / "photos" / f"{place}.png")
        said = [f"a {level} {name} square", f"the square number {place} is {name}", f"{name}"][: 2 + place % 2]
        rows += [{"image": f"photos/{place}.png", "caption": text} for text in said]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder / "captions.jsonl"


def experiment(table, **changes):
    own = {"task.data": Table(path=str(table), validation=0.25, test=0.25), "task.texts": 3}
    own |= {"task.tokenizer": SentencePiece(column="text", part="text", vocab_size=60), "task.max_length": 16}
    return suite.replace(suite.load("multimodal.match", smoke=True), {**own, **changes})


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    return untrained(experiment(table), tmp_path_factory.mktemp("match") / "run")


def test_rows_of_a_picture_are_one_record_in_one_split(table):
    rows = Memory({"image": ["a", "b", "a", "c"], "caption": ["one", "", "two", ["three", "four"]]})
    records = gathered(rows, "image", "caption")[np.arange(2)]
    assert records["image"] == ["a", "c"] and records[PICTURES] == [["a"], ["c"]]
    assert records["caption"] == [["one", "two"], ["three", "four"]]
    assert gathered(rows, "image", "caption").dropped == {"without caption": 1}
    bare = gathered(Memory({"image": ["", "a", None], "caption": ["one", "two", "three"]}), "image", "caption")
    assert bare.dropped == {"without image": 2} and len(bare) == 1
    whole = gathered(Table(path=str(table)).whole(), "image", "caption")
    named = lambda split, seed=0: [
        row[0] for row in part_of(whole, split, seed, (0.25, 0.25), "").column(PICTURES, np.arange(9))
    ]
    parts = [named(split) for split in ("train", "validation", "test")]
    assert len(set(parts[1]) | set(parts[2])) == 18 and not set(parts[0]) & set(parts[1] + parts[2])
    assert len(part_of(whole, "train", 0, (0.25, 0.25), "")) == 18
    assert set(named("test", seed=1)) != set(parts[2])


def test_inspection_has_the_splits_of_training(table):
    task = experiment(table).task
    for split in ("train", "validation", "test"):
        rows, records = task.split_data.open(split), task.source(split)
        assert sorted(set(map(name_of, rows.column("image", np.arange(len(rows)))))) == sorted(
            map(name_of, records.column("image", np.arange(len(records))))
        )
        assert len(rows) == sum(map(len, records.column("caption", np.arange(len(records)))))


def name_of(path):
    return Path(path).name


def test_an_archive_of_captions_is_read_as_its_folder(table, tmp_path):
    lines = ["image,caption", *(f'{place}.png,"a, b"' for place in (1, 2)), "none.png,c"]
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for place in (1, 2):
            archive.add(table.parent / "photos" / f"{place}.png", f"data/images/{place}.png")
        content = "\n".join(lines).encode()
        about = tarfile.TarInfo("data/captions.txt")
        about.size = len(content)
        archive.addfile(about, io.BytesIO(content))
    source = CaptionArchive(path=str(tmp_path / "a.tar.gz")).whole()
    assert source.dropped == {"picture not in the archive": 1}
    records = source[np.arange(2)]
    assert records["caption"] == ["a, b", "a, b"] and records["file"] == ["1.png", "2.png"]
    assert records["image"][0] == (table.parent / "photos" / "1.png").read_bytes()
    with pytest.raises(InputError, match="no table"):
        CaptionArchive(path=str(tmp_path / "a.tar.gz"), table="other.csv").whole()


def sides(seed=0):
    rng = np.random.default_rng(seed)
    images, texts = (unit(jnp.asarray(rng.standard_normal((B, D)), jnp.float32)) for _ in range(2))
    batch = {"content": keys(range(B)), "other_content": keys(range(10, 10 + B))}
    return images, texts, {**batch, "mask": np.arange(B) < B - 1}


def test_the_sigmoid_loss_judges_each_pair_by_itself():
    images, texts, batch = sides()
    logits = 10 * np.asarray(images @ texts.T, np.float64) - 3
    signs = 2 * np.eye(B) - 1
    expected = np.log1p(np.exp(-signs * logits))[:, : B - 1].sum(-1)  # the last row is padding
    np.testing.assert_allclose(sigmoid_losses(images, texts, batch, 10, -3)[:-1], expected[:-1], rtol=1e-5)
    equal = {**batch, "other_content": keys([10, 10, 12, 13, 14, 15])}  # the text of the first is that of the second
    losses = sigmoid_losses(images, texts, equal, 10, -3)
    np.testing.assert_allclose(losses[0], np.log1p(np.exp(-signs * logits))[0, [0, 2, 3, 4]].sum(), rtol=1e-5)


def test_the_sigmoid_loss_has_the_negatives_of_all_devices():
    images, texts, batch = sides()

    def total(images, texts, scale, batch):
        return sigmoid_losses(images, texts, batch, scale, -3.0) * batch["mask"]

    def shared(images, texts, scale, batch):
        with laid_out(Layout(axis="devices")):
            return total(images, texts, scale, batch)

    split = lambda tree: jax.tree.map(lambda a: jnp.reshape(a, (2, B // 2, *a.shape[1:])), tree)
    over = jax.vmap(shared, axis_name="devices", in_axes=(0, 0, None, 0))
    both = lambda images, texts, scale: over(split(images), split(texts), scale, split(batch)).reshape(-1)
    np.testing.assert_allclose(both(images, texts, 10.0), total(images, texts, 10.0, batch), rtol=1e-5)
    ours = jax.grad(lambda *given: both(*given).sum(), (0, 1, 2))(images, texts, 10.0)
    theirs = jax.grad(lambda *given: total(*given, batch).sum(), (0, 1, 2))(images, texts, 10.0)
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, yours, rtol=1e-4, atol=1e-5)


def test_ranks_are_among_the_whole_pool_and_equal_texts_are_right():
    rng, n = np.random.default_rng(0), 7
    images = np.asarray(unit(jnp.asarray(rng.standard_normal((n, D)), jnp.float32)))
    texts = np.asarray(unit(jnp.asarray(rng.standard_normal((n * K, D)), jnp.float32))).reshape(n, K, D)
    real, names = np.ones((n, K), bool), np.arange(100, 100 + n * K).reshape(n, K)
    real[2, 1] = False
    names[4, 0] = names[0, 0]  # two pictures have an equal text
    batch = {"content": keys(range(n)), "texts_content": keys(names.ravel()).reshape(n, K, 2), "texts_real": real}
    pool = {"vector": images, "texts": texts, **batch}
    outputs = jax.tree.map(np.asarray, pool_ranks(jnp.asarray(images), jnp.asarray(texts), batch, pool))
    cosines = np.einsum("nd,mkd->nmk", images, texts)
    for i in range(n):
        right = (np.arange(n)[:, None] == i) | np.isin(names, names[i][real[i]])
        best = cosines[i][right & real].max()
        assert outputs["image_rank"][i] == 1 + (cosines[i][~right & real] >= best).sum()
        for k in range(K):
            owners = (np.arange(n) == i) | ((names == names[i, k]) & real).any(-1)
            best = cosines[:, i, k][owners].max()
            assert outputs["text_rank"][i, k] == 1 + (cosines[:, i, k][~owners] >= best).sum()
    blank = {**pool, "vector": np.ones_like(images), "texts": np.ones_like(texts)}
    nothing = pool_ranks(jnp.ones((n, D)), jnp.ones((n, K, D)), batch, blank)
    assert nothing["image_rank"].min() > K and nothing["text_rank"].min() > n - 2
    scores = pairing_scores(np.array([1, 6]), np.array([[1, 2], [1, 9]]), np.array([[True, True], [True, False]]))
    assert {name: scores[name].value() for name in ("image_to_text_1", "text_to_image_1", "both_ways_1")} == {
        "image_to_text_1": 0.5,
        "text_to_image_1": pytest.approx(2 / 3),
        "both_ways_1": pytest.approx((0.75 + 0.5) / 2),
    }


def test_canonical_correlation_finds_what_two_sides_share():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((400, 3))
    first = np.hstack([shared @ rng.standard_normal((3, 6)), rng.standard_normal((400, 2))]) + 4
    second = np.hstack([rng.standard_normal((400, 5)), shared @ rng.standard_normal((3, 4))])
    kernel, bias, other, shift = canonical_correlation(first, second, 5, (1e-6, 1e-6))
    ours, theirs = first @ kernel + bias, second @ other + shift
    np.testing.assert_allclose(np.corrcoef(ours[:, :3].T, theirs[:, :3].T)[:3, 3:], np.eye(3), atol=1e-3)
    np.testing.assert_allclose(ours[:, :3].std(0), 1, atol=1e-3)  # scaled by correlations, which are 1
    assert ours[:, 3:].std(0).max() < 0.4 and abs(ours.mean(0)).max() < 1e-4


def test_a_run_is_measured_both_ways_among_a_stated_pool(run):
    assert run.experiment.task.frozen == () and not run.experiment.task.image_weights
    task, source = run.experiment.task, run.experiment.task.source("test")
    assert any("a pool of 9 and " in line for line in task.remarks({"test": source}))
    metrics = run.evaluate("test").metrics
    ways = [metrics[f"test/{way}_{first}"] for way in ("image_to_text", "text_to_image") for first in (1, 5, 10)]
    assert all(0 <= share <= 1 for share in ways) and metrics["test/text_to_image_10"] == 1  # of 9 pictures
    encoded = task.encode(source[np.arange(4)], np.random.default_rng(0))
    assert encoded["texts"].shape == (4, 1, 16) and task.encode(source[np.arange(4)])["texts"].shape == (4, 3, 16)
    batch = {**encoded, "mask": np.array([True, True, True, False])}
    for objective in ("softmax", "sigmoid"):
        loss, states = suite.replace(run.experiment, {"task.objective": objective}).task.loss(run.model, batch, None)
        assert np.isfinite(loss) and states["loss"].count == 3


def test_a_bundle_ranks_pictures_for_a_text_and_judges_labels_of_a_picture(run, table, tmp_path):
    bundle = suite.export(run, tmp_path / "bundle", platforms=("cpu",))
    asked = ["a dark red square", "blue"]
    theirs, ours = bundle.predict(asked), run.predict(asked)
    assert [[row["item"] for row in answer["pictures"]] for answer in theirs] == [
        [row["item"] for row in answer["pictures"]] for answer in ours
    ]
    assert len(ours[0]["pictures"]) == 10 and ours[0]["pictures"][0]["item"].startswith("photos/")
    assert np.diff([row["score"] for row in ours[0]["pictures"]]).max() <= 0
    picture = (table.parent / "photos" / "3.png").read_bytes()
    request = {"image": [picture, picture], "labels": [["red", "blue", "green"], ["red", "red"]]}
    answers = bundle.predict(request, program="labels")
    assert set(answers[0]["probabilities"]) == {"red", "blue", "green"}
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answers[1]["probabilities"] == {"red": 1.0}, "equal labels are one"
    assert answers[0]["label"] == max(answers[0]["probabilities"], key=answers[0]["probabilities"].get)
    with pytest.raises(InputError, match="1 to 16 labels"):
        run.experiment.task.programs()["labels"].codec.encode({"image": [picture], "labels": [[]]})
    (tmp_path / "new.csv").write_text(
        f"name,image\nmine,{table.parent}/photos/4.png\nyours,{table.parent}/photos/5.png\n"
    )
    fewer, _ = suite.replace_catalogue(bundle.folder, tmp_path / "new.csv", tmp_path / "fewer")
    assert {row["item"] for row in fewer.predict(asked)[0]["pictures"]} == {"mine", "yours"}


def test_a_picture_and_its_mirror_are_judged_alike_where_both_are_views(table, tmp_path):
    picture, mirror = (table.parent / "photos" / "3.png").read_bytes(), io.BytesIO()
    Image.open(io.BytesIO(picture)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirror, "PNG")
    asked = {"image": [picture, mirror.getvalue()], "labels": [["red", "blue"]] * 2}
    judged = lambda run: [answer["probabilities"]["red"] for answer in run.predict(asked, program="labels")]
    one, other = judged(untrained(experiment(table), tmp_path / "one"))
    both = untrained(experiment(table, **{"task.views": ("flip",)}), tmp_path / "both")
    assert abs(one - other) > 1e-5
    for model in (both, suite.export(both, tmp_path / "bundle", platforms=("cpu",))):
        first, second = judged(model)
        assert first == pytest.approx(second, abs=1e-6) and first != pytest.approx(one, abs=1e-6)


def test_the_closed_form_is_one_step_and_finds_colours(table, tmp_path):
    """Of fresh encoders, whose vectors tell colours apart as it is."""
    closed = {"task.objective": "cca", "task.ridge": 0.05, "task.text_ridge": 0.05}
    run = suite.train(experiment(table, **closed), tmp_path / "run")
    assert run.evaluate("train").metrics["train/both_ways_10"] > 0.8
    heads = {"task.objective": "cca", "model.parts.heads.hidden": 8}
    with pytest.raises(InputError, match="solves linear heads"):
        suite.train(experiment(table, **heads), tmp_path / "hidden")


def test_kept_vectors_are_those_of_the_encoder_and_are_read_again(monkeypatch, tmp_path):
    from suite.weights import pretrained
    from tests.tiny_bert import CASE, golden

    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    folder = golden.folder(CASE, tmp_path / "bert")
    tokens, mask = np.arange(12).reshape(3, 4) + 1, np.arange(4) < np.array([[4], [2], [3]])
    _, model = pretrained.load(str(folder), outputs=0, pooling="mean")
    make = lambda: Kept(str(folder), {"outputs": 0, "pooling": "mean"}, lambda model, rows: model(*rows), "tokens")
    rows = lambda places: (tokens[places], mask[places])
    first = make()(["a", "b", "c"], rows)
    np.testing.assert_allclose(first, model(tokens, mask), atol=1e-5)
    monkeypatch.setattr(pretrained, "load", None)  # which would be called
    np.testing.assert_array_equal(make()(["c", "a", "c"], rows), first[[2, 0, 2]])
    with pytest.raises(TypeError):
        make()(["d"], lambda places: rows([0] * len(places)))


def test_encoders_that_are_frozen_are_kept_where_their_weights_are_published(table):
    recipe, starts = suite.load("multimodal.match"), {"image": "pictures.bin", "text": "texts"}

    def chosen(**changes):
        changed = suite.replace(recipe, {"checkpoint.init_from": starts, **changes})
        task = settled(changed, Memory({"image": []}))[0].task
        return task.frozen, task.image_weights, task.text_weights

    assert chosen() == (("image", "text"), "pictures.bin", "texts")
    some = ("^image/", "^text/encoder/layers/0/")
    assert chosen(**{"optim.frozen": some}) == (("image",), "pictures.bin", "")
    assert chosen(**{"task.augmentation": ("crop",)}) == (("image", "text"), "", "texts")
    assert chosen(**{"model.parts.text.pooling": "cls"}) == (("image", "text"), "pictures.bin", "")
    assert chosen(**{"optim.frozen": ()}) == ((), "", "")


def test_frozen_encoders_run_as_in_prediction(run, table):
    """Neither dropout nor the batch's statistics enter, and no gradient leaves."""
    from flax import nnx

    task = suite.replace(run.experiment, {"task.frozen": ("image", "text")}).task
    columns = task.source("train")[np.arange(4)]
    batch = {**bound(task, run.folder).encode(columns, np.random.default_rng(0)), "mask": np.ones(4, bool)}
    still, _ = task.loss(run.model, batch, nnx.Rngs(dropout=0))
    assert np.isfinite(still)
    grads = nnx.grad(lambda model: task.loss(model, batch, nnx.Rngs(dropout=0))[0])(run.model)
    norms = {name: max(float(abs(leaf).max()) for leaf in jax.tree.leaves(grads[name])) for name in ("image", "text")}
    assert norms == {"image": 0, "text": 0}
    assert max(float(abs(leaf).max()) for leaf in jax.tree.leaves(grads["heads"])) > 0


def test_losses_are_the_same_on_eight_devices_by_every_engine(run, forked_child):
    code = f"import runpy, sys; sys.argv = ['', {str(run.folder)!r}]; "
    printed = forked_child(f"{code}runpy.run_module('tests.tasks.matching_child', run_name='__main__')", **simulated(8))
    several = json.loads(printed.splitlines()[-1])
    one = {objective: matching_child.losses(run.folder, objective) for objective in ("softmax", "sigmoid")}
    assert all(len(set(losses)) > 1 for losses in one.values())
    for name, losses in several.items():
        np.testing.assert_allclose(losses, one[name.split()[0]], rtol=1e-5, err_msg=name)


def test_clip_takes_the_place_of_the_parts(table, tmp_path):
    own = {"task.data": Table(path=str(table), validation=0.25, test=0.25), "task.texts": 3, "task.max_length": 16}
    own["task.tokenizer"] = SentencePiece(column="text", vocab_size=60)
    run = untrained(suite.replace(suite.load("multimodal.clip", smoke=True), own), tmp_path / "run")
    assert run.evaluate("test").metrics["test/text_to_image_10"] == 1  # of 9 pictures
    (answer,) = run.predict(["a dark red square"])
    assert len(answer["pictures"]) == 10


def test_the_texts_of_a_record_are_asked_as_one(run):
    """As where the held-back records of an export are asked, whose captions are lists."""
    (answer,) = run.predict([["a dark red square", "red"]])
    assert len(answer["pictures"]) == 10


def test_words_are_explained_by_the_picture_that_they_find(run, tmp_path):
    """In the run and in its bundle; of records of the data, which have several texts, by the first."""
    text = "a red square"
    found = run.predict([text])[0]["pictures"]
    one = explaining.explain(run, text)[0].explanation
    assert one.subject.name == found[0]["item"] and one.completeness < 0.01 and one.values.any()
    assert [unit.name for unit in one.division.units] == text.split()
    other = explaining.explain(run, text, chosen=found[1]["item"])[0].explanation
    assert other.subject.name == found[1]["item"] and other.subject.score <= one.subject.score
    bundle = exporting.export(run, tmp_path / "bundle", platforms=("cpu",), explain=True)
    answer = bundle.predict([text], program="explain")[0]
    assert answer["score"] == pytest.approx(one.subject.score, abs=1e-4) and answer["completeness_error"] < 0.02
    several = run.predict({"caption": [[text, "something else"]]})
    assert several[0]["pictures"][0] == found[0]


def test_words_that_a_frozen_encoder_reads_are_explained(table, tmp_path):
    """Training stops its derivatives, an explanation does not."""
    frozen = untrained(experiment(table, **{"task.frozen": ("text",)}), tmp_path / "run")
    assert frozen.experiment.task.frozen == ("text",)
    one = explaining.explain(frozen, "a red square")[0].explanation
    assert one.completeness < 0.01 and one.values.any()
