"""Pre-training on images: losses by their definitions, views, hidden patches, probes, files without classes, and what
carries on in a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import suite
from suite.data.random_views import RandomView
from suite.data.sources.unlabelled import Files
from suite.errors import InputError
from suite.evaluation.contrast import two_view_losses, unit
from suite.evaluation.probes import RIDGE, linear_classes, neighbour_classes, probe_scores
from suite.models import dnn, mae, resnet, vit
from suite.models.mae import images_of, patches_of
from suite.models.parts import Parts
from suite.nn.parted import in_parts
from suite.parallel.layout import Layout, laid_out
from suite.reporting.drawings import drawn
from suite.training.assemble import assemble
from suite.training.initial_weights import initial_weights
from suite.training.preprocessors import prepare
from suite.tree import paths
from suite.weights import pretrained
from tests.untrained import untrained

B, D, TEMPERATURE = 6, 4, 0.2


def keys(numbers):
    return np.stack([np.asarray(numbers), np.zeros(len(numbers))], 1).astype(np.int32)


@pytest.fixture
def views():
    """Two views of a batch whose last row is padding; row 3 is row 2 again."""
    rng = np.random.default_rng(0)
    first, second = (unit(jnp.asarray(rng.standard_normal((B, D)), jnp.float32)) for _ in range(2))
    return first, second, {"content": keys([0, 1, 2, 2, 4, 5]), "mask": np.arange(B) < B - 1}


def test_a_view_is_told_from_all_views_of_other_records(views):
    first, second, batch = views
    losses = np.asarray(two_view_losses(first, second, batch, TEMPERATURE))
    both = np.concatenate([first, second]).astype(np.float64)
    wanted = []
    for i in range(B - 1):
        others = [j for j in range(B - 1) if j != i and batch["content"][j, 0] != batch["content"][i, 0]]
        pair = []
        for own, partner in ((i, i + B), (i + B, i)):
            scores = both[own] @ both.T / TEMPERATURE
            among = [partner, *others, *(j + B for j in others)]
            pair.append(np.log(np.exp(scores[among]).sum()) - scores[partner])
        wanted.append(np.mean(pair))
    np.testing.assert_allclose(losses[:-1], wanted, rtol=1e-5)
    gradient = jax.grad(lambda x: two_view_losses(x, second, batch, TEMPERATURE).sum())(first)
    assert np.isfinite(losses).all() and np.isfinite(gradient).all()


def test_views_of_all_devices_are_told_apart(views):
    """Under pmap a device sees its own rows; losses and gradients are those of the whole batch."""
    first, second, batch = views
    parts = jax.tree.map(lambda a: jnp.reshape(a, (2, B // 2, *a.shape[1:])), ((first, second), batch))

    def shared(sides, batch):
        with laid_out(Layout(axis="devices")):
            return two_view_losses(*sides, batch, TEMPERATURE)

    whole = lambda sides: two_view_losses(*sides, batch, TEMPERATURE)
    split = lambda sides: jax.vmap(shared, axis_name="devices")(sides, parts[1]).reshape(-1)
    np.testing.assert_allclose(split(parts[0]), whole((first, second)), rtol=1e-5)
    ours = jax.grad(lambda sides: split(sides)[:-1].sum())(parts[0])
    theirs = jax.grad(lambda sides: whole(sides)[:-1].sum())((first, second))
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.reshape(B, D), yours, atol=1e-5)


def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(views):
    _, _, batch = views
    rows = {"x": jnp.asarray(np.random.default_rng(1).standard_normal((2 * B, 3)), jnp.float32)}
    graph, params, rest = nnx.split(
        dnn.Config(inputs=3, hidden=(5,), outputs=D).build(rngs=nnx.Rngs(0)), nnx.Param, ...
    )

    def loss(params, parts):
        model = nnx.merge(graph, params, rest)
        vectors = in_parts(model, lambda model, part, rngs: unit(model(part["x"])), rows, parts, None)
        return two_view_losses(*jnp.split(vectors, 2), batch, TEMPERATURE)[:-1].mean()

    (whole, wanted), (split, found) = (jax.value_and_grad(loss)(params, parts) for parts in (1, 4))
    np.testing.assert_allclose(split, whole, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted)


def test_a_batch_in_parts_leaves_running_statistics_behind():
    model = resnet.small(channels=1, blocks=(1,), widths=(4,), stem_width=4).build(rngs=nnx.Rngs(0))
    images = {"x": jnp.asarray(np.random.default_rng(0).standard_normal((4, 6, 6, 1)), jnp.float32)}
    before = np.asarray(model.stem.norm.mean[...])
    graph, state = nnx.split(model)

    @jax.jit
    def after(state, key):
        model = nnx.merge(graph, state)
        rows = in_parts(model, lambda m, part, rngs: m(part["x"], rngs=rngs), images, 2, key)
        return rows, nnx.split(model)[1]

    rows, changed = after(state, jax.random.key(0))
    assert rows.shape == (4, 4)
    assert np.abs(np.asarray(changed["stem"]["norm"]["mean"][...]) - before).max() > 0


PLAIN = {"smallest": 1.0, "widest": 1.0, "flip": False, "jitter": 0.0, "grey": 0.0}


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (9, 20, 24, 3), dtype=np.uint8)


def test_views_are_drawn_by_the_generator_alone(pixels):
    view, before = RandomView(blur=0.5), pixels.copy()
    once, again, other = (view(pixels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert once.dtype == np.uint8 and once.shape == pixels.shape
    np.testing.assert_array_equal(once, again)
    assert (once != other).any() and (pixels == before).all()
    np.testing.assert_array_equal(RandomView(**PLAIN)(pixels, np.random.default_rng(0)), pixels)


def test_a_part_is_scaled_as_pillow_scales_it(pixels):
    """Bilinear with a triangle as wide as what is shortened; Pillow rounds between the two sides."""
    view = RandomView(**{**PLAIN, "smallest": 0.2, "widest": 4 / 3})
    found, rng = view(pixels, np.random.default_rng(3)), np.random.default_rng(3)
    count, height, width, _ = pixels.shape
    area, shape = rng.uniform(0.2, 1.0, count), np.exp(rng.uniform(-np.log(4 / 3), np.log(4 / 3), count))
    high, wide = np.minimum(np.sqrt(area / shape), 1), np.minimum(np.sqrt(area * shape), 1)
    top, left = rng.random(count) * (1 - high) * height, rng.random(count) * (1 - wide) * width
    for i in range(count):
        box = (left[i], top[i], left[i] + wide[i] * width, top[i] + high[i] * height)
        wanted = Image.fromarray(pixels[i]).resize((width, height), Image.Resampling.BILINEAR, box=box)
        # Pillow takes the pixels within the box alone where the triangle reaches beyond it.
        inner = np.abs(np.asarray(wanted, int) - found[i])[2:-2, 2:-2]
        assert inner.max() <= 2, i


def test_colours_change_as_their_fields_say(pixels):
    draw = lambda images, **changes: RandomView(**{**PLAIN, **changes})(images, np.random.default_rng(0)).astype(int)
    grey = draw(pixels, grey=1.0)
    assert np.ptp(grey, axis=-1).max() <= 1
    np.testing.assert_allclose(grey[..., 0], pixels @ np.array([0.299, 0.587, 0.114]), atol=1)
    mirrored = draw(pixels, flip=True)
    same = lambda view, image: int((view == image).all())
    kinds = [same(view, image) - same(view, image[:, ::-1]) for view, image in zip(mirrored, pixels, strict=True)]
    assert set(kinds) == {-1, 1}
    jittered = draw(pixels, jitter=1.0, jittered=1.0)
    assert (np.abs(jittered - pixels).mean((1, 2, 3)) > 5).all()
    even = np.full((50, 4, 4, 3), 120, np.uint8)  # saturation, hue and contrast leave even grey alone
    values = draw(even, jitter=0.5, jittered=1.0)
    assert np.ptp(values, axis=(1, 2, 3)).max() <= 1 and 72 <= values.min() < 100 and 140 < values.max() <= 168
    large = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    assert draw(large, blur=1.0).std() < 0.9 * large.std()
    for channels in (1, 4):
        image = np.full((3, 8, 8, channels), 100, np.uint8)
        assert (draw(image, jitter=0.5, jittered=1.0, grey=0.5)[..., 3:] == 100).all()


def test_fields_of_a_view_are_checked():
    for changes, said in (
        ({"grey": 1.2}, "view.grey"),
        ({"smallest": 0.0}, "view.smallest"),
        ({"widest": 0.5}, "view"),
    ):
        with pytest.raises(InputError, match=said):
            RandomView(**changes)


def test_probes_tell_classes_by_their_definitions():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 5))
    labels = np.arange(40) % 3
    known = jnp.asarray(centres[labels] + 0.3 * rng.standard_normal((40, 5)), jnp.float32)
    labels = np.where(np.arange(40) < 3, -1, labels)
    asked_labels = np.arange(12) % 3
    asked = jnp.asarray(centres[asked_labels] + 0.3 * rng.standard_normal((12, 5)), jnp.float32)
    found = neighbour_classes(asked, known, jnp.asarray(labels), 3, 5)
    cosines = np.asarray(unit(asked) @ unit(known).T, np.float64)
    cosines[:, labels < 0] = -np.inf
    for row, said in zip(cosines, np.asarray(found), strict=True):
        nearest = np.argsort(-row)[:5]
        votes = np.bincount(labels[nearest], np.exp(row[nearest] / 0.07), 3)
        assert said == votes.argmax()
    x, y = np.asarray(known, np.float64)[labels >= 0], np.eye(3)[labels[labels >= 0]]
    mean, deviation = x.mean(0), x.std(0)
    x = (x - mean) / deviation
    weights = np.linalg.solve(x.T @ x / len(x) + RIDGE * np.eye(5), x.T @ (y - y.mean(0)) / len(x))
    wanted = ((np.asarray(asked) - mean) / deviation @ weights + y.mean(0)).argmax(-1)
    np.testing.assert_array_equal(linear_classes(asked, known, jnp.asarray(labels), 3), wanted)
    scores = probe_scores(np.array([0, 1, 2]), np.array([0, 0, 0]), np.array([0, 1, -1]))
    assert scores["knn_accuracy"].value() == 1 and scores["linear_accuracy"].value() == 0.5


def picture(rng, colour):
    pixels = rng.integers(0, 80, (8, 8, 3), dtype=np.uint8)
    pixels[..., colour] += 120
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for colour, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir()
        for i in range(20):
            picture(rng, colour).save(folder / name / f"{i}.png")
    return folder


def test_files_need_no_class(photos, tmp_path):
    rng = np.random.default_rng(1)
    labelled = Files(path=str(photos)).open("train")
    assert labelled.classes == {"label": ["blue", "green", "red"]}
    for i in range(30):
        picture(rng, 0).save(tmp_path / f"{i}.png")
    (tmp_path / "readme.txt").write_text("of the zoo")
    flat = {split: Files(path=str(tmp_path)).open(split) for split in ("train", "validation", "test")}
    assert sum(map(len, flat.values())) == 30 and set(flat["train"].schema) == {"image", "file"}
    assert flat["train"].dropped == {"not image": 1}
    (tmp_path / "more" / "deep").mkdir(parents=True)
    picture(rng, 1).save(tmp_path / "more" / "deep" / "one.png")
    assert sum(len(Files(path=str(tmp_path)).open(split)) for split in flat) == 31  # in folders and beside them
    parted = tmp_path / "parted"
    for split, count in (("train", 5), ("val", 2)):
        (parted / split).mkdir(parents=True)
        for i in range(count):
            picture(rng, 2).save(parted / split / f"{i}.png")
    assert [len(Files(path=str(parted)).open(split)) for split in ("train", "validation")] == [5, 2]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no image, recording or text lies here"):
        Files(path=str(tmp_path / "none")).open("train")


def tiny(name, folder, **changes):
    """A recipe with a network of a few parameters, on images of 8 x 8 pixels."""
    networks = {
        "vision.pretrain": {
            "model": Parts(
                parts={
                    "image": resnet.small(blocks=(1,), widths=(8,), stem_width=4),
                    "projector": dnn.Config(hidden=(8,), outputs=4),
                },
                feeds={"projector": "image"},
            )
        },
        "vision.pretrain_masked": {
            "task.augmentation": (),
            "model": Parts(
                parts={
                    "image": vit.Config(patch=2, layers=1, hidden=16, heads=2),
                    "decoder": mae.Config(layers=1, hidden=8, heads=2),
                },
                feeds={"decoder": "image"},
            ),
        },
    }
    small = {"precision.compute": "float32", "train.batch_size": 8, "train.epochs": 1, "task.data.path": str(folder)}
    return suite.replace(suite.load(name), {**networks[name], **small, **changes})


def model_of(run):
    return nnx.merge(run._program.graph, *run._weights)


@pytest.fixture(scope="module")
def masked(photos, tmp_path_factory):
    return untrained(tiny("vision.pretrain_masked", photos), tmp_path_factory.mktemp("masked") / "run")


def test_patches_and_images_are_inverse(pixels):
    images = jnp.asarray(pixels, jnp.float32)
    patches = patches_of(images, 4)
    assert patches.shape == (9, 30, 48)
    np.testing.assert_array_equal(patches[0, 7].reshape(4, 4, 3), images[0, 4:8, 4:8])
    np.testing.assert_array_equal(images_of(patches, (5, 6), 4), images)


def test_hidden_patches_are_answered_without_being_seen(masked):
    """What the decoder answers depends on no pixel that is hidden, and the loss on no pixel answer that is visible."""
    task, model = masked.experiment.task, model_of(masked)
    batch = task.encode(task.source("validation")[np.arange(2)])
    batch = {**batch, "mask": np.ones(2, bool), "seed": np.arange(2, dtype=np.uint32)}
    said = {name: np.asarray(value) for name, value in task.losses(model, batch, None).items()}
    hidden = said["hidden"].reshape(2, 4, 4)
    assert (hidden.sum((1, 2)) == 12).all() and (hidden[0] != hidden[1]).any()
    over = np.repeat(np.repeat(hidden, 2, 1), 2, 2)[..., None]
    np.testing.assert_array_equal(np.where(over, 0, said["picture"]), np.where(over, 0, batch["image"]))
    # Each patch is rescaled to the true one's mean and deviation, so compare a change that keeps both: its mirror.
    mirrored = patches_of(jnp.asarray(batch["image"]), 2).reshape(2, 16, 2, 2, 3)[:, :, ::-1].reshape(2, 16, 12)
    changed = np.where(over, np.asarray(images_of(mirrored, (4, 4), 2)), batch["image"]).astype(np.uint8)
    assert (changed != batch["image"]).any()
    again = task.losses(model, {**batch, "image": changed}, None)
    near = np.abs(np.asarray(again["picture"], int) - said["picture"])
    assert near.max() <= 1 and (np.asarray(again["loss"]) != said["loss"]).any()


def test_what_is_hidden_of_a_record_is_the_same_in_any_batch(masked):
    task, model = masked.experiment.task, model_of(masked)
    encoded = task.encode(task.source("validation")[np.arange(3)])
    batch = {**encoded, "mask": np.ones(3, bool), "seed": np.array([0, 1, 2], np.uint32)}
    alone = {name: value[1:2] for name, value in batch.items()}
    whole, one = task.losses(model, batch, None), task.losses(model, alone, None)
    np.testing.assert_allclose(whole["loss"][1], one["loss"][0], rtol=1e-5)


def test_a_report_shows_neighbours_and_reconstructions(masked):
    assert {"validation/loss", "validation/knn_accuracy"} <= masked.evaluate("validation").metrics.keys()
    _, artifacts = masked.examine("validation")
    assert list(artifacts) == ["Vectors", "Loss of single images", "Reconstructions"]
    (cards,) = drawn(artifacts["Reconstructions"])
    assert [name for name, _ in cards.cards[0].fields] == ["visible", "reconstructed"]
    assert drawn(artifacts["Vectors"])
    answers = masked.predict(list(masked.experiment.task.source("test")[np.arange(2)]["image"]))
    np.testing.assert_allclose([np.linalg.norm(answer["vector"]) for answer in answers], 1, atol=1e-5)


def test_masked_patches_need_a_vision_transformer(photos, tmp_path):
    image = resnet.small(blocks=(1,), widths=(8,), stem_width=4)
    wrong = tiny("vision.pretrain_masked", photos, **{"model.parts.image": image})
    with pytest.raises(InputError, match="vision transformer"):
        untrained(
            suite.replace(wrong, {"model": Parts(parts={"image": image, "decoder": dnn.Config(inputs=2, outputs=2)})}),
            tmp_path / "run",
        ).evaluate("validation")


@pytest.fixture(scope="module")
def contrast(photos, tmp_path_factory):
    return suite.train(tiny("vision.pretrain", photos), tmp_path_factory.mktemp("contrast") / "run")


def test_labels_are_for_probes_alone(contrast, photos):
    task = contrast.experiment.task
    columns = task.source("train")[np.arange(4)]
    assert set(task.encode(columns, np.random.default_rng(0))) == {"view", "other_view", "content"}
    assert set(task.encode(columns)) == {"view", "other_view", "content", "image", "label"}
    assert contrast.metrics["validation/knn_accuracy"] > 0.5 < contrast.metrics["validation/linear_accuracy"]
    assert "which training does not see" in " ".join(task.remarks({"train": task.source("train")}))
    # Held-out views are the same however rows share a batch.
    alone = task.encode({name: values[2:3] for name, values in columns.items()})
    np.testing.assert_array_equal(alone["view"][0], task.encode(columns)["view"][2])


def test_images_without_labels_are_trained_on_and_not_probed(photos, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, file in enumerate(sorted(photos.rglob("*.png"))):
        (flat / f"{i}.png").write_bytes(file.read_bytes())
    run = untrained(tiny("vision.pretrain", flat), tmp_path / "run")
    task = run.experiment.task
    assert task.reference("validation") is None and list(run.evaluate("validation").metrics) == ["validation/loss"]
    assert any("no probe of classes" in line for line in task.remarks({"train": task.source("train")}))


def test_a_pretrained_network_carries_on_in_a_classifier(contrast, photos, tmp_path, caplog):
    """Its sizes, its parameters and running statistics; the projector stays behind and the head is new."""
    recipe = suite.load("vision.classify")
    changes = {"task.data.path": str(photos), "checkpoint.init_from": str(contrast.folder), "defaults": None}
    experiment = suite.replace(recipe, {**changes, "train.batch_size": 8, "train.epochs": 1, "model.dropout": 0.3})
    experiment = pretrained.adopt(experiment)
    assert experiment.model.widths == (8,) and experiment.model.dropout == 0.3
    experiment = prepare(experiment, tmp_path, experiment.task.source("train"))
    program = assemble(experiment, 1)
    state, abstract = program.init(), program.abstract
    params, others = initial_weights(
        experiment, (abstract.params, abstract.model_state), (state.params, state.model_state)
    )
    theirs, fresh = (paths(tree) for tree in (contrast._weights[0]["image"], state.params))
    found = paths(params)
    assert found.keys() == fresh.keys() == {*theirs, "head/kernel", "head/bias"}
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, theirs.get(name, fresh[name]))
    running = paths(contrast._weights[1]["image"])
    assert running
    for name, leaf in paths(others).items():
        np.testing.assert_array_equal(leaf, running[name])
    (line,) = [record.getMessage() for record in caplog.records if 'its part "image"' in record.getMessage()]
    assert "new: head" in line and "left behind: projector" in line


def test_a_part_of_another_family_is_refused(contrast, photos, tmp_path):
    model = {"model": dnn.Config(hidden=(4,)), "checkpoint.init_from": str(contrast.folder)}
    data = {"task.data": suite.load("vision.classify").task.data, "task.data.path": str(photos)}
    experiment = suite.replace(suite.load("vision.digits_dnn", smoke=True), {**data, **model})
    experiment = prepare(pretrained.adopt(experiment), tmp_path, experiment.task.source("train"))
    program = assemble(experiment, 1)
    state, abstract = program.init(), program.abstract
    with pytest.raises(InputError, match="was written by another model"):
        initial_weights(experiment, (abstract.params, abstract.model_state), (state.params, state.model_state))
