"""Speech pre-training: hidden spans, clusters, what is scored, what carries on in a recogniser and a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import suite
from suite.data.sources.datasets import Memory
from suite.errors import InputError
from suite.evaluation.metrics.codes import UsedCodes
from suite.models import audio, quantizer, wav2vec2
from suite.nn.audio.spans import hidden_spans, uniform_frames
from suite.nn.audio.spectral import LogMel
from suite.parallel.layout import Layout, laid_out
from suite.tasks.audio_clusters import AudioClusters, with_slopes
from suite.tasks.speech.pretraining import other_places
from suite.training.preprocessors import adopt
from suite.tree import paths
from tests.tasks.test_text_pretraining import carried
from tests.untrained import FRONT_END, RATE, recordings, untrained

CEPSTRA = LogMel(sample_rate=RATE, window=50, hop=20, fft=64, bins=8, cepstra=6)
SMALL = {"train.steps": 2, "train.batch_size": 8, "train.log_every": 1, "pipeline.buckets": (2000,)}
WAVES = wav2vec2.Config(
    conv_widths=(6, 6),
    conv_kernels=(10, 4),
    conv_strides=(5, 4),
    layers=1,
    width=16,
    heads=2,
    feed_forward=24,
    position_kernel=8,
    position_groups=2,
    pooling="hidden",
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return recordings(tmp_path_factory.mktemp("speech") / "files")


def experiment(manifest, **changes):
    fields = {
        "task.data": manifest,
        "task.max_seconds": 1.0,
        "task.features.front_end": FRONT_END,
        "task.clusters.front_end": CEPSTRA,
        "task.clusters.count": 7,
        "model.parts.audio": audio.Config(layers=1, width=16, heads=2, kernel=5, subsampling=2, pooling="hidden"),
    }
    return suite.replace(suite.load("speech.pretrain", smoke=True), {**fields, **SMALL, **changes})


def contrast(manifest, **changes):
    sizes = {"model.parts.quantizer": quantizer.Config(entries=5, code=8, width=8), "model.parts.audio": WAVES}
    own = {
        "task.data": manifest,
        "task.max_seconds": 1.0,
        "task.features.front_end.sample_rate": RATE,
        "task.others": 4,
    }
    return suite.replace(suite.load("speech.pretrain_contrast", smoke=True), {**own, **sizes, **SMALL, **changes})


@pytest.fixture(scope="module")
def run(manifest, tmp_path_factory):
    return untrained(experiment(manifest), tmp_path_factory.mktemp("masked") / "run")


@pytest.fixture(scope="module")
def contrast_run(manifest, tmp_path_factory):
    return untrained(contrast(manifest), tmp_path_factory.mktemp("contrast") / "run")


def batch_of(task, rows=4, length=2000):
    encoded = task.encode(task.source("train")[np.arange(rows)])
    values, mask = encoded["audio"].padded(length)
    seeds = np.arange(rows, dtype=np.uint32)
    return {"audio": values, "audio_mask": mask, "mask": np.arange(rows) < rows - 1, "seed": seeds}


def judged_by(run, batch, seed=None):
    """What the task says of a batch, in training where there is a seed, as arrays of the host."""

    def judged(weights, batch):
        rngs = None if seed is None else nnx.Rngs(dropout=seed)
        return run.experiment.task.judged(nnx.merge(run._program.graph, *weights), batch, rngs)

    return jax.tree.map(np.asarray, jax.jit(judged)(run._weights, batch))


def test_spans_are_hidden_where_frames_are_real():
    rng = np.random.default_rng(0)
    draws, real = rng.random((200, 60)), np.arange(60) < rng.integers(1, 61, (200, 1))
    hidden = np.asarray(hidden_spans(jnp.asarray(draws), jnp.asarray(real), 0.05, 4))
    for row, drawn, is_real in zip(hidden, draws, real, strict=True):
        length = int(is_real.sum())
        starts = np.flatnonzero(drawn[:length] < 0.05).tolist() + [int(drawn[:length].argmin())]
        expected = np.zeros(60, bool)
        for start in starts:
            expected[start : start + 4] = True
        np.testing.assert_array_equal(row, expected & is_real)
    nothing = hidden_spans(jnp.asarray(draws), jnp.zeros_like(real), 0.5, 4)
    assert not nothing.any()


def test_draws_of_a_frame_do_not_depend_on_padding():
    keys = jax.random.split(jax.random.key(0), 3)
    long, short = uniform_frames(keys, 9, 2), uniform_frames(keys[1:], 5, 2)
    np.testing.assert_array_equal(long[1:, :5], short)
    assert len(np.unique(long)) == long.size


def test_slopes_are_those_of_a_line():
    features = jnp.stack([3.0 * jnp.arange(12.0), jnp.full(12, 2.0)], -1)[None]
    made = np.asarray(with_slopes(jnp.pad(features, ((0, 0), (0, 5), (0, 0))), jnp.arange(17)[None] < 12))
    np.testing.assert_allclose(made[0, 4:8], [[3.0 * t, 2, 3, 0, 0, 0] for t in range(4, 8)], atol=1e-5)
    np.testing.assert_allclose(made[0, :12], np.asarray(with_slopes(features, jnp.ones((1, 12), bool)))[0], atol=1e-5)


def test_clusters_are_the_nearest_of_their_own_frames(tmp_path):
    """Of stored features as of samples; the same whatever a row is padded to."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((3, 4)) * 20
    rows = [np.repeat(kinds[rng.permutation(3)], 9, 0).astype(np.float32) for _ in range(8)]
    rows = [row + rng.standard_normal(row.shape).astype(np.float32) / 100 for row in rows]
    made = AudioClusters(count=3)
    made.fit(Memory({"audio": rows}), "audio", tmp_path / "clusters.json")
    clusters = AudioClusters(count=3, file=str(tmp_path / "clusters.json"))
    ids, _ = clusters.ids(jnp.asarray(np.stack(rows)), jnp.ones((8, 27), bool))
    for row, said in zip(rows, np.asarray(ids), strict=True):
        middles = said[4::9]  # a slope of 0 on all sides
        assert len(set(middles.tolist())) == 3
        nearest = [int(np.square(kinds - frame).sum(-1).argmin()) for frame in row[4::9]]
        assert dict(zip(nearest, middles.tolist(), strict=True)).keys() == {0, 1, 2}
    padded = jnp.pad(jnp.asarray(np.stack(rows)), ((0, 0), (0, 6), (0, 0)))
    longer, _ = clusters.ids(padded, jnp.arange(33)[None] < jnp.full((8, 1), 27))
    np.testing.assert_array_equal(longer[:, :27], ids)
    assert clusters.sizes() == {"outputs": 3} and clusters.frequencies.sum() == pytest.approx(1, abs=1e-4)
    with pytest.raises(InputError, match="more than there are different frames"):
        AudioClusters(count=900).fit(Memory({"audio": rows}), "audio", tmp_path / "other.json")


def test_codes_in_use_add_and_resample():
    one, two = UsedCodes(np.array([[4, 0, 0, 0]]), 4), UsedCodes(np.array([[0, 4, 4, 4]]), 12)
    assert one.value() == 1 and two.value() == pytest.approx(3) and (one + two).value() == pytest.approx(4)
    weights = np.array([[1, 1], [2, 0], [0, 1]])
    np.testing.assert_allclose(UsedCodes.resampled([one, two], weights), [4, 1, 3])


def test_the_loss_is_of_hidden_frames_alone(run):
    batch = batch_of(run.experiment.task)
    said = judged_by(run, batch)
    assert said["counted"][:3].any(1).all() and not said["counted"][3].any()  # the last row is padding
    assert (said["nats"][~said["counted"]] == 0).all() and (said["nats"][said["counted"]] > 0).all()
    assert said["used"].shape == (4, 1, 7) and said["used"].sum() == said["counted"].sum()
    lengths = np.asarray(FRONT_END.frames(jnp.asarray(batch["audio_mask"].sum(1))))
    assert not (said["counted"] & (np.arange(said["counted"].shape[1]) >= lengths[:, None])).any()
    again = judged_by(run, batch)
    np.testing.assert_array_equal(said["counted"], again["counted"])
    first, second = (judged_by(run, batch, seed)["counted"] for seed in (0, 1))
    assert (first != second).any()
    metrics = run.experiment.task.score(said, batch)
    assert metrics["loss"].value() == pytest.approx(said["nats"].sum() / said["counted"].sum(), rel=1e-6)
    assert 1 <= metrics["codes_used"].value() <= 7


def test_what_is_hidden_is_not_seen(run):
    """Of recordings stored as features: those of hidden frames may be anything, those of others may not."""
    task = run.experiment.task
    audio = np.random.default_rng(0).standard_normal((3, 40, 8)).astype(np.float32)
    batch = {"audio": audio, "audio_mask": np.ones((3, 40), bool), "mask": np.ones(3, bool), "seed": np.arange(3)}
    key, _ = task.keys(batch, None)

    def seen(weights, audio):
        return task.seen(nnx.merge(run._program.graph, *weights), {**batch, "audio": audio}, None, key)[:2]

    seen = jax.jit(seen)
    plain, hidden = seen(run._weights, audio)
    changed = np.where(hidden[..., None], audio + 5, audio)
    np.testing.assert_array_equal(seen(run._weights, changed)[0], plain)
    assert not np.allclose(seen(run._weights, np.where(hidden[..., None], audio, audio + 5))[0], plain)


@pytest.mark.parametrize("kind", ["masked", "contrast"])
def test_the_mean_over_devices_is_that_of_one(kind, run, contrast_run):
    """The penalty on codes is of the codes of all devices."""
    run = run if kind == "masked" else contrast_run
    task, batch = run.experiment.task, batch_of(run.experiment.task)

    def total(batch):
        model = nnx.merge(run._program.graph, *run._weights)
        _, states = task.loss(model, batch, None)
        return states["loss"].total, states["loss"].count

    def shared(batch):
        with laid_out(Layout(axis="devices")):
            return total(batch)

    split = jax.tree.map(lambda a: jnp.reshape(jnp.asarray(a), (2, 2, *np.shape(a)[1:])), batch)
    ours, theirs = jax.vmap(shared, axis_name="devices")(split), total(batch)
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.sum(mine), yours, rtol=1e-5)


def test_a_run_is_measured_and_gives_vectors(run, contrast_run, manifest):
    for one in (run, contrast_run):
        metrics = one.evaluate("test").metrics
        assert np.isfinite(metrics["test/loss"]) and 0 <= metrics["test/accuracy"] <= 1
        value = manifest.open("test").column("audio", np.arange(1))[0]
        vector = one.predict([value])[0]["vector"]
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) and len(vector) == 16
    lines = run.experiment.task.remarks({"train": run.experiment.task.source("train")})
    assert lines[0].startswith("train: frames are in 7 clusters")


def test_an_encoder_carries_on_in_a_classifier_and_a_recogniser(manifest, tmp_path):
    """With its sizes, its front end and what that has learnt; the head is new."""
    run = suite.train(experiment(manifest), tmp_path / "run")
    assert np.isfinite(run.metrics["validation/loss"])
    theirs = {f"encoder/{name}": leaf for name, leaf in paths(run._weights[0]["audio"]["encoder"]).items()}
    for recipe, pooling in (("speech.classify", "mean"), ("speech.recognize", "none")):
        start = {"checkpoint.init_from": str(run.folder), "task.data": manifest, "task.max_seconds": 1.0}
        made, lines = adopt(suite.replace(suite.load(recipe), start))
        assert made.task.features.front_end == FRONT_END and "front_end" in lines[0]
        front_end = {"task.features": made.task.features, "task.data": manifest}
        own, found, fresh = carried(recipe, run, tmp_path / recipe, **front_end)
        assert (own.model.width, own.model.layers, own.model.pooling) == (16, 1, pooling)
        np.testing.assert_array_equal(own.task.features.mean, run.experiment.task.features.mean)
        assert fresh.keys() == {*theirs, "head/kernel", "head/bias"}
        for name, leaf in found.items():
            np.testing.assert_array_equal(leaf, theirs.get(name, fresh[name]))


def test_frames_of_clusters_and_features_run_at_one_rate(manifest):
    for name, value in (("hop", 40), ("sample_rate", 1000)):
        task = experiment(manifest, **{f"task.clusters.front_end.{name}": value}).task
        with pytest.raises(InputError, match="must be that of the features") as caught:
            task.source("train")
        assert caught.value.fix == f"--task.clusters.front_end.{name} {getattr(FRONT_END, name)}"


def test_samples_are_clustered_at_the_steps_of_the_encoder(manifest, tmp_path):
    """HuBERT: masked are the frames behind the convolutions."""
    fields = {"task.features.kind": "samples", "model.parts.audio": WAVES}
    own = untrained(experiment(manifest, **fields), tmp_path / "run")
    said = judged_by(own, batch_of(own.experiment.task))
    assert said["counted"].any() and np.isfinite(said["nats"]).all()
    other = untrained(experiment(manifest, **{**fields, "task.clusters.front_end.hop": 60}), tmp_path / "other")
    with pytest.raises(InputError, match="not the step of the encoder") as caught:
        judged_by(other, batch_of(other.experiment.task))
    assert caught.value.fix == "--task.clusters.front_end.hop 20"


def test_other_frames_are_hidden_ones_of_the_same_recording():
    rng = np.random.default_rng(0)
    hidden = rng.random((20, 30)) < rng.random((20, 1))
    places = np.asarray(other_places(jnp.asarray(rng.random((20, 30, 50))), jnp.asarray(hidden)))
    for row, of_row in zip(hidden, places, strict=True):
        for frame, drawn in enumerate(of_row):
            left = set(np.flatnonzero(row)) - {frame}
            if not row[frame] or not left:
                assert (drawn == -1).all()
            else:
                assert set(drawn.tolist()) <= left
    many = np.asarray(other_places(jnp.asarray(rng.random((1, 8, 400))), jnp.ones((1, 8), bool)))
    assert all(set(drawn.tolist()) == set(range(8)) - {frame} for frame, drawn in enumerate(many[0]))


def test_codes_are_drawn_have_gradients_and_cool():
    books = quantizer.Config(inputs=4, features=3, books=2, entries=6, code=8, width=5, cooling=0.5).build(
        rngs=nnx.Rngs(0)
    )
    features = jax.random.normal(jax.random.key(0), (2, 7, 3))
    noise = 3 * jax.random.gumbel(jax.random.key(1), (2, 7, 2, 6))
    drawn, likely = books(features, noise)[1], books(features)[1]
    np.testing.assert_allclose(drawn.sum(-1), 1, rtol=1e-6)
    assert (drawn.argmax(-1) != likely.argmax(-1)).any()
    assert float(books.temperature[...]) == 1.0
    for _ in range(3):
        books(features, noise)
    assert float(books.temperature[...]) == 0.5
    grads = nnx.grad(lambda books: books(features, noise)[0].sum())(books)
    assert abs(grads.choose.kernel[...]).max() > 0 and abs(grads.entries[...]).max() > 0


def test_fields_are_checked(manifest):
    for changes, said in (
        ({"task.starts": 0.0}, "starts"),
        ({"task.span": 0}, "span"),
        ({"task.clusters.count": 1}, "count"),
    ):
        with pytest.raises(InputError, match=said):
            experiment(manifest, **changes)
    for changes, said in (({"task.features.kind": "spectral"}, "samples"), ({"task.temperature": 0.0}, "temperature")):
        with pytest.raises(InputError, match=said):
            contrast(manifest, **changes)
