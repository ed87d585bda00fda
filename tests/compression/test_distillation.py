"""A student with its teacher: what is trained, what is compared, what is heard inside, and what is refused."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import suite
from suite.compression.distill import Distill
from suite.contracts.batch import Batch
from suite.errors import InputError
from suite.evaluation.losses import binary_distillation_loss, cross_entropy, distillation_loss, masked_mean, tally
from suite.experiment.compression import Distillation
from suite.experiment.sections import Optim, replace
from suite.models import audio, decoder, dnn, resnet, transformer
from suite.nn.hooks import hooks
from suite.surgery.teacher import Distilled, Pair, attached, detached, given, hear, kept, matched, with_tables
from suite.tasks.recommendation.click import ClickPrediction
from suite.tasks.speech.recognition import SpeechRecognition
from suite.tasks.text.language_modelling import LanguageModelling
from suite.tasks.text.translation import Translation
from suite.training.optim.optimizer import build
from suite.tree import map_paths, paths
from tests import toy

ROWS, LENGTH, CLASSES = 4, 6, 3
BODY = {
    "vocab_size": 20,
    "outputs": CLASSES,
    "layers": 2,
    "heads": 2,
    "feed_forward": 32,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
TEACHER = transformer.Config(width=16, norm="post", **BODY)
STUDENT = transformer.Config(width=8, norm="post", **{**BODY, "layers": 1})


class Texts:
    """Classes of texts, without data."""

    def loss(self, model, batch, rngs):
        logits = model(batch["tokens"], batch["tokens_mask"], rngs=rngs)
        losses = cross_entropy(logits, batch["label"])
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    def distillation_loss(self, ours, theirs, batch, temperature):
        return jnp.where(batch["mask"], distillation_loss(ours, theirs, temperature), 0)


def batch(seed=0, rows=ROWS) -> Batch:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, LENGTH + 1, rows)
    return {
        "tokens": jnp.asarray(rng.integers(0, 20, (rows, LENGTH)), jnp.int32),
        "tokens_mask": jnp.arange(LENGTH) < jnp.asarray(lengths)[:, None],
        "label": jnp.asarray(rng.integers(0, CLASSES, rows), jnp.int32),
        "mask": jnp.arange(rows) < rows - 1,
    }


def built(config, seed=0):
    """(graph, (params, model_state)) of a model, drawn by ``seed``."""
    graph, *parts = nnx.split(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param, ...)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.standard_normal(leaf.shape) / np.sqrt(max(leaf.shape[-2:-1], default=1))
        return jnp.asarray(1 + 0.2 * np.abs(values) if path.endswith(("scale", "variance")) else values, leaf.dtype)

    params, model_state = (map_paths(draw, nnx.to_pure_dict(part)) for part in parts)
    return graph, (params, model_state)


def answered(config, x, seed=0):
    """What the model of that seed says to a batch of texts."""
    graph, weights = built(config, seed)
    return jax.jit(lambda weights: nnx.merge(graph, *weights)(x["tokens"], x["tokens_mask"]))(weights)


# The model


def test_a_pair_is_the_student_with_other_variables():
    pair = Pair(student=STUDENT, teacher=TEACHER, projections=((8, 16),))
    _, params, model_state = nnx.split(nnx.eval_shape(lambda: pair.build(rngs=nnx.Rngs(0))), nnx.Param, ...)
    own, theirs = built(STUDENT)[1], built(TEACHER, 1)[1]
    names = set(paths(nnx.to_pure_dict(params)))
    assert names == {*paths(own[0]), "projections/0/kernel", "projections/0/bias"}
    assert set(paths(nnx.to_pure_dict(model_state))) == {f"teacher/{name}" for name in paths(theirs[0])}
    joined = attached(pair, own, theirs, seed=3)
    graph, x = built(pair)[0], batch()

    @jax.jit
    def both(params, model_state):
        model = nnx.merge(graph, params, model_state)
        return tuple(each(x["tokens"], x["tokens_mask"]) for each in (model, model.teacher))

    mine, yours = both(*joined)
    np.testing.assert_allclose(mine, answered(STUDENT, x), atol=1e-5)
    np.testing.assert_allclose(yours, answered(TEACHER, x, 1), atol=1e-5)
    assert jax.tree.structure(detached(*joined)) == jax.tree.structure(own)
    assert pair.layer_of("projections/0/kernel") == pair.depth == STUDENT.depth
    assert pair.layer_of("encoder/tokens/embedding") == 0
    assert pair.sharding == STUDENT.sharding


class Pictures:
    """Classes of pictures, without data."""

    def loss(self, model, batch, rngs):
        losses = cross_entropy(model(batch["image"], rows=batch["mask"], rngs=rngs), batch["label"])
        return masked_mean(losses, batch["mask"]), {"loss": tally(losses, batch["mask"])}

    distillation_loss = Texts.distillation_loss


def test_running_statistics_of_the_teacher_stay():
    """Of a residual network both have them; training moves the student's alone."""
    config = resnet.small(channels=1, outputs=CLASSES, blocks=(1,), widths=(8,), stem_width=8)
    pair = Pair(student=config, teacher=config)
    params, model_state = attached(pair, built(config)[1], built(config, 1)[1], 0)
    task = Distilled(task=Pictures())  # type: ignore[arg-type]
    graph, x = built(pair)[0], {**batch(), "image": drawn(ROWS, 8, 8, 1)}

    @jax.jit
    def after(params, model_state):
        model = nnx.merge(graph, params, model_state)
        task.loss(model, x, nnx.Rngs(dropout=0))
        return nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    before, moved = paths(model_state), paths(after(params, model_state))
    assert moved.keys() == before.keys()
    for name, leaf in moved.items():
        assert bool((leaf == before[name]).all()) == name.startswith("teacher/"), name


def test_a_teacher_of_another_family():
    """A residual network teaches a plain one: what they are asked and what they answer is alike."""
    student = dnn.Config(inputs=64, hidden=(16,), outputs=CLASSES)
    teacher = resnet.small(channels=1, outputs=CLASSES, blocks=(1,), widths=(8,), stem_width=8)
    x = {**batch(), "image": drawn(ROWS, 8, 8, 1)}
    pair = Pair(student=student, teacher=teacher)
    assert matched(pair, Pictures(), x, Distillation()) == pair
    _, params, model_state = nnx.split(nnx.eval_shape(lambda: pair.build(rngs=nnx.Rngs(0))), nnx.Param, ...)
    assert all(name.startswith("layers/") for name in paths(nnx.to_pure_dict(params)))
    assert "teacher/stem/norm/mean" in paths(nnx.to_pure_dict(model_state))


# What is heard


def test_hidden_states_are_those_inside():
    graph, weights = built(TEACHER)
    model, x = nnx.merge(graph, *weights), batch()
    inputs = x["tokens"], x["tokens_mask"]
    parts = list(model.encoder.layers)
    with hooks(model, ["encoder/layers/0", "encoder/layers/1", "encoder"]) as calls:
        model(*inputs)
    heard = {path: given(path, call) for path, (call,) in calls.items()}
    first = parts[0](model.encoder._embed(inputs[0]), inputs[1], None)
    np.testing.assert_array_equal(heard["encoder/layers/0"].output, first)
    np.testing.assert_array_equal(heard["encoder/layers/1"].output, parts[1](first, inputs[1], None))
    np.testing.assert_array_equal(heard["encoder"].output, heard["encoder/layers/1"].output)
    np.testing.assert_array_equal(heard["encoder/layers/0"].real, inputs[1])


@pytest.mark.parametrize(
    "config, part, inputs, real",
    [
        (decoder.Config(vocab_size=20, layers=1, width=8, heads=2), "layers/0", ("tokens",), None),
        (audio.Config(inputs=5, outputs=4, layers=1, width=8, heads=2), "encoder", ("frames", "mask"), (3, 2)),
        (resnet.small(channels=1, outputs=3, blocks=(1,), widths=(8,), stem_width=8), "stages/0/0", ("images",), None),
    ],
)
def test_what_is_padding_is_known_from_the_part(config, part, inputs, real):
    values = {
        "tokens": jnp.ones((3, 8), jnp.int32),
        "frames": jnp.ones((3, 8, 5)),
        "mask": jnp.ones((3, 8), bool),
        "images": jnp.ones((3, 8, 8, 1)),
    }
    found = []

    def called(weights, *inputs):
        model = nnx.merge(graph, *weights)
        with hooks(model, [part]) as calls:
            model(*inputs)
        found.append(given(part, calls[part][-1]))

    graph, weights = built(config)
    jax.eval_shape(called, weights, *(values[name] for name in inputs))
    assert (None if found[0].real is None else found[0].real.shape) == real
    assert found[0].output.shape[0] == 3


# The loss


def losses(settings, seed=1, student=STUDENT, teacher=TEACHER):
    """(total, tallies, gradient by parameters) of a pair on a batch."""
    pair = matched(Pair(student=student, teacher=teacher), Texts(), batch(), settings)
    graph = built(pair)[0]
    params, model_state = attached(pair, built(student, seed)[1], built(teacher)[1], 0)
    task = Distilled(task=Texts(), settings=settings)  # type: ignore[arg-type]
    call = lambda params, model_state: task.loss(nnx.merge(graph, params, model_state), batch(), None)
    (total, tallies), grads = jax.jit(jax.value_and_grad(call, has_aux=True))(params, model_state)
    return float(total), tallies, paths(grads)


def test_the_loss_is_its_formula():
    settings = Distillation(
        temperature=3.0, labels=0.3, logits=0.6, states=0.2, hidden=(("encoder/layers/1", "encoder/layers/0"),)
    )
    total, tallies, grads = losses(settings)
    x = batch()
    ours, theirs = np.asarray(answered(STUDENT, x, 1), np.float64), np.asarray(answered(TEACHER, x), np.float64)
    soft = lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    p, q, real = soft(theirs / 3), soft(ours / 3), slice(0, ROWS - 1)
    logits = 9 * (p * np.log(p / q)).sum(-1)[real].mean()
    labels = -np.log(soft(ours)[np.arange(ROWS), np.asarray(x["label"])])[real].mean()
    np.testing.assert_allclose(tallies["logits"].value(), logits, rtol=1e-4)
    np.testing.assert_allclose(tallies["labels"].value(), labels, rtol=1e-4)
    hidden = tallies["hidden"].value()
    assert 0 < hidden < 4  # of vectors of length one
    np.testing.assert_allclose(total, 0.3 * labels + 0.6 * logits + 0.2 * hidden, rtol=1e-4)
    np.testing.assert_allclose(tallies["loss"].value(), total, rtol=1e-6)
    assert all(np.abs(grads[name]).max() > 0 for name in ("projections/0/kernel", "head/kernel"))


def test_the_distance_of_hidden_states():
    """Over real tokens of real rows, in a pair of equal widths, which needs no projection."""
    settings = Distillation(labels=0.0, logits=0.0, hidden=(("encoder/layers/1", "encoder/layers/0"),))
    student = dataclasses.replace(TEACHER, layers=1)
    total, _, grads = losses(settings, student=student)
    assert not any(name.startswith("projections") for name in grads)
    x, parts = batch(), {}
    for config, path, seed in ((student, "encoder/layers/0", 1), (TEACHER, "encoder/layers/1", 0)):
        graph, weights = built(config, seed)
        model = nnx.merge(graph, *weights)
        with hooks(model, [path]) as calls:
            model(x["tokens"], x["tokens_mask"])
        made = np.asarray(calls[path][-1].output, np.float64)
        parts[path] = made / np.linalg.norm(made, axis=-1, keepdims=True)
    squares = ((parts["encoder/layers/0"] - parts["encoder/layers/1"]) ** 2).sum(-1)
    mask = np.asarray(x["tokens_mask"])
    rows = [squares[i][mask[i]].mean() for i in range(ROWS - 1)]
    np.testing.assert_allclose(total, np.mean(rows), rtol=1e-4)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    settings = Distillation(labels=0.0, logits=1.0, hidden=(("encoder/layers/1", "encoder/layers/1"),))
    total, tallies, grads = losses(settings, seed=0, student=TEACHER)
    assert abs(total) < 1e-6 and abs(tallies["hidden"].value()) < 1e-6
    assert max(float(jnp.abs(leaf).max()) for leaf in grads.values()) < 1e-4


def test_agreement_grows_towards_that_of_the_teacher():
    """Logits alone, the student being of the teacher's own config, with other weights to begin with."""
    settings = Distillation(labels=0.0, logits=1.0, temperature=1.0)
    pair = Pair(student=TEACHER, teacher=TEACHER)
    graph = built(pair)[0]
    params, model_state = attached(pair, built(TEACHER, 1)[1], built(TEACHER)[1], 0)
    task = Distilled(task=Texts(), settings=settings)  # type: ignore[arg-type]
    data = [batch(seed, 32) for seed in range(4)]
    transform = build(Optim(learning_rate=1e-2, schedule="constant"), params, 200)

    @jax.jit
    def step(params, state, x):
        call = lambda params: task.loss(nnx.merge(graph, params, model_state), x, None)[0]
        value, grads = jax.value_and_grad(call)(params)
        updates, state = transform.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state, value

    state, gaps = transform.init(params), []
    for i in range(200):
        params, state, gap = step(params, state, data[i % 4])
        gaps.append(float(gap))
    assert np.mean(gaps[-4:]) < 0.02 * np.mean(gaps[:4])


# How far answers are apart, task by task


def soft_distance(ours, theirs, temperature=1.0):
    soft = lambda z: np.exp(z / temperature) / np.exp(z / temperature).sum(-1, keepdims=True)
    p, q = soft(np.asarray(theirs, np.float64)), soft(np.asarray(ours, np.float64))
    return (p * np.log(p / q)).sum(-1)


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_divergence():
    ours, theirs = drawn(5, 7), drawn(5, 7, seed=1)
    np.testing.assert_allclose(distillation_loss(ours, theirs, 2.0), soft_distance(ours, theirs, 2.0), rtol=1e-4)
    np.testing.assert_allclose(distillation_loss(ours, ours + 3), np.zeros(5), atol=1e-6)
    odds = jnp.stack([ours[:, 0], jnp.zeros(5)], -1), jnp.stack([theirs[:, 0], jnp.zeros(5)], -1)
    np.testing.assert_allclose(
        binary_distillation_loss(ours[:, 0], theirs[:, 0], 2.0), soft_distance(*odds, 2.0), rtol=1e-4
    )


def unmade(kind, **fields):
    """A task whose method needs none of its data."""
    task = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(task, name, value)
    return task


MASK = jnp.array([True, True, False])


def test_divergence_of_clicks():
    ours, theirs = drawn(3), drawn(3, seed=1)
    found = unmade(ClickPrediction).distillation_loss(ours, theirs, {"mask": MASK}, 1.0)
    np.testing.assert_allclose(found[:2], binary_distillation_loss(ours, theirs)[:2])
    assert found[2] == 0


def test_divergence_of_running_text_is_a_sum_over_tokens_but_the_first():
    ours, theirs = drawn(3, 4, 5), drawn(3, 4, 5, seed=1)
    x = {"mask": MASK, "tokens_mask": jnp.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)}
    found = unmade(LanguageModelling).distillation_loss(ours, theirs, x, 1.0)
    each = soft_distance(ours, theirs)
    np.testing.assert_allclose(found, [each[0].sum(), each[1, :2].sum(), 0], rtol=1e-4)


def test_divergence_of_a_translation_is_a_sum_over_its_tokens():
    ours, theirs = drawn(3, 2, 5), drawn(3, 2, 5, seed=1)
    x = {"mask": MASK, "target_mask": jnp.array([[1, 1], [1, 0], [1, 1]], bool)}
    found = unmade(Translation).distillation_loss(ours, theirs, x, 1.0)
    each = soft_distance(ours, theirs)
    np.testing.assert_allclose(found, [each[0].sum(), each[1, 0], 0], rtol=1e-4)


def test_divergence_of_a_recording_is_the_mean_over_its_frames():
    ours, theirs = drawn(3, 4, 5), drawn(3, 4, 5, seed=1)
    real = jnp.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
    found = unmade(SpeechRecognition).distillation_loss((ours, real), (theirs, real), {"mask": MASK}, 1.0)
    each = soft_distance(ours, theirs)
    np.testing.assert_allclose(found, [each[0].mean(), each[1, 0], 0], rtol=1e-4)


# What is refused


def refused(call, *lines):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value).splitlines() == list(lines)


def test_parts_that_cannot_be_compared():
    pair = Pair(student=STUDENT, teacher=TEACHER)
    settings = lambda *hidden: Distillation(hidden=hidden)
    refused(
        lambda: matched(pair, Texts(), batch(), settings(("encoder/layers/7", "encoder/layers/0"))),
        'field distill.hidden: "encoder/layers/7" is no part of TransformerClassifier.',
        "  found: encoder/layers/0, encoder/layers/1",
        "  try:   encoder/layers/1",
    )
    refused(
        lambda: matched(pair, Texts(), batch(), settings(("encoder", "head"))),
        "field distill.hidden: encoder and head have vectors at different places.",
        "  found: teacher (4, 6, 16), student (4, 3)",
        "  try:   parts with as many frames, tokens or pixels",
    )
    again = Pair(student=dataclasses.replace(STUDENT, remat="full"), teacher=TEACHER)
    refused(
        lambda: matched(again, Texts(), batch(), settings(("encoder", "encoder"))),
        "field model.remat: is full, which keeps no hidden states to learn from.",
        "  try:   --model.remat none",
    )
    assert kept(again.student) == STUDENT and kept(dnn.Config()) == dnn.Config()  # as teachers
    refused(
        lambda: matched(pair, Texts(), batch(), Distillation(temperature=0.0)),
        "field distill.temperature: must be above 0.",
        "  found: 0.0",
        "  try:   --distill.temperature 2",
    )
    refused(
        lambda: matched(pair, Texts(), batch(), Distillation(labels=-1.0)),
        "field distill.labels: must be at least 0.",
        "  found: -1.0",
    )
    more = Pair(student=dataclasses.replace(STUDENT, outputs=5), teacher=TEACHER)
    refused(
        lambda: matched(more, Texts(), batch(), settings()),
        "flag --distill: teacher and student answer with arrays of different shapes.",
        "  found: teacher (4, 3), student (4, 5)",
        "  try:   a student with the teacher's classes or symbols, and as many frames",
    )


def test_a_task_that_cannot_compare_answers():
    refused(
        lambda: toy.Parity().distillation_loss(None, None, {}, 1.0),
        "flag --distill: Parity does not say how far two answers are apart.",
        "  try:   learn hidden states instead: --distill.logits 0 --distill.hidden PART PART",
    )


def test_students_that_cannot_learn_from_it():
    digits = suite.Run(Path("runs/digits"), suite.load("vision.digits_dnn"))
    refused(
        lambda: Distill("text.synthetic_sentiment").start(digits),
        "flag --distill: text.synthetic_sentiment learns another kind of task.",
        "  found: TextClassification; the run: ImageClassification",
        "  try:   a recipe with the run's task",
    )
    other = replace(suite.load("vision.digits_dnn"), {"task.statistics.size": (4, 4)})
    refused(
        lambda: Distill(other).start(digits),
        "field task.statistics: is not the teacher's, so the two would not read or say the same.",
        "  found: teacher: size None; student: size (4, 4)",
        "  try:   a recipe with the teacher's",
    )
    parts = replace(suite.load("vision.digits_dnn"), {"finetune.kind": "lora"})
    refused(
        lambda: Distill(parts).start(digits),
        "field finetune.kind: is lora: a student is trained whole.",
        "  try:   --finetune full",
    )
    none = replace(Distill("vision.digits_dnn").start(digits), {"compression.distill.logits": 0.0})
    refused(
        lambda: Distill("vision.digits_dnn").name(none),
        "field distill.logits: is 0, and no hidden states are named: the teacher has no say.",
        "  try:   --distill.logits 0.9",
    )


def test_the_teacher_is_asked_without_dropout():
    config = dataclasses.replace(TEACHER, dropout=0.5)
    pair = Pair(student=dataclasses.replace(STUDENT, dropout=0.5), teacher=config)
    graph, weights = built(pair)[0], attached(pair, built(pair.student)[1], built(config)[1], 0)

    @jax.jit
    def told(weights, seed):
        heard = hear(nnx.merge(graph, *weights), Texts(), batch(), nnx.Rngs(dropout=seed), ())
        return heard.ours, heard.theirs

    (ours, theirs), (others, same) = (told(weights, jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(theirs, same)
    assert np.abs(ours - others).max() > 1e-3


def test_a_table_begins_as_the_teachers_on_its_widest_axes():
    """Rows that lie in a plane keep their distances; nothing else of the student changes."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 8)) @ rng.normal(size=(8, 16))
    teacher = ({"tokens": {"embedding": jnp.asarray(plane)}}, {})
    fresh = {"tokens": {"embedding": jnp.asarray(rng.normal(size=(20, 8)))}, "head": {"kernel": jnp.ones((8, 3))}}
    (made, model_state) = with_tables((fresh, {"x": 1}), teacher, [("tokens/embedding", "tokens/embedding")])
    table, before = np.asarray(made["tokens"]["embedding"]), np.asarray(fresh["tokens"]["embedding"])
    apart = [np.linalg.norm(rows[:, None] - rows[None], axis=-1) for rows in (plane, table)]
    np.testing.assert_allclose(apart[1] / apart[1].max(), apart[0] / apart[0].max(), atol=1e-5)
    assert table.std() == pytest.approx(before.std(), rel=1e-4) and model_state == {"x": 1}
    assert np.array_equal(made["head"]["kernel"], fresh["head"]["kernel"])


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ((("nowhere", "tokens/embedding"),), "the teacher has no table nowhere."),
        ((("tokens/embedding", "head/bias"),), "the student has no table head/bias."),
        ((("tokens/embedding", "head/kernel"),), "head/kernel cannot begin with tokens/embedding."),
    ],
)
def test_tables_that_do_not_fit_are_refused(tables, problem):
    head = {"kernel": jnp.zeros((8, 3)), "bias": jnp.ones(3)}
    weights = ({"tokens": {"embedding": jnp.zeros((20, 16))}, "head": head}, {})
    with pytest.raises(InputError) as refused:
        with_tables(weights, weights, tables)
    assert refused.value.where == "field distill.tables" and refused.value.problem == problem
