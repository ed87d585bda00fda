"""Residual networks and vision transformers give what their peers give, and their weights come back as they were."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file

import suite
from suite.data.sources.datasets import Folder
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.sections import replace
from suite.models import resnet
from suite.tree import paths
from suite.weights import pretrained
from suite.weights.imports import pattern
from tests.parity import golden, peers_vision

LIVE = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # the peer's warnings are no faults of ours
SOURCES = ["stored", pytest.param("live", marks=LIVE)]
FULL = {
    "resnet18": ({"architecture": "resnet18"}, 11_689_512),
    "resnet34": ({"architecture": "resnet34.tv_in1k"}, 21_797_672),
    "resnet50": ({"architecture": "resnet50"}, 25_557_032),
    "resnet101": ({"architecture": "resnet101"}, 44_549_160),
    "resnet152": ({"architecture": "resnet152"}, 60_192_808),
    "vit-base": ({"architecture": "vit_base_patch16_224"}, 86_567_656),
}


def case(name, source):
    return golden.load(name) if source == "stored" else peers_vision.CASES[name]()


def gradients(model, images):
    """(logits, gradients by path) of the scalar that peers_vision.py documents."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def scalar(params):
        logits = nnx.merge(graph, params, rest)(images)
        return jnp.square(logits).sum(), logits

    grads, logits = jax.jit(jax.grad(scalar, has_aux=True))(params)
    return logits, paths(nnx.to_pure_dict(grads))


def published_gradients(table, grads, wanted):
    """Our gradients under the published names ``wanted``."""
    found = {}
    for name in wanted:
        for prefix in table.prefixes:
            for rule in table.rules:
                match = pattern(rule.sources[0]).match(name.removeprefix(prefix)) if name.startswith(prefix) else None
                if match:
                    ours = [np.asarray(grads[path.format(**match.groupdict())]) for path in rule.paths]
                    (found[name],) = rule.transform.write(ours)
    return found


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", peers_vision.CASES)
def test_models_agree_with_their_peers(name, source, tmp_path):
    package = next((package for package in ("torchvision", "timm") if package in name), None)
    if source == "live" and package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    made = case(name, source)
    folder = golden.folder(made, tmp_path / "published")
    _, model = pretrained.load(folder)
    logits, grads = gradients(model, jnp.asarray(made.inputs["images"]))
    assert np.abs(logits - made.outputs["logits"]).max() <= 2e-5
    table = pretrained.formats()[pretrained.format_of(pretrained.published.open(folder))]
    ours = published_gradients(table, grads, made.grads)
    assert ours.keys() == made.grads.keys()
    for tensor, expected in made.grads.items():
        assert ours[tensor].shape == expected.shape, tensor
        assert np.linalg.norm(ours[tensor] - expected) <= 1e-4 * np.linalg.norm(expected), tensor
    if "batch_logits" in made.outputs:
        training(model, made)


def training(model, made):
    """Logits with the batch's statistics, and the running averages that they leave."""
    images = jnp.asarray(made.inputs["images"])
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def forward(params, rest):
        model = nnx.merge(graph, params, rest)
        logits = model(images, rngs=nnx.Rngs(0))
        return logits, jnp.stack([model.stem.norm.mean[...], model.stem.norm.variance[...]])

    logits, updated = forward(params, rest)
    # Two images leave few values a channel in the last stage: rounding is divided by small deviations.
    assert np.abs(logits - made.outputs["batch_logits"]).max() <= 2e-4
    np.testing.assert_allclose(updated, made.outputs["updated"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", peers_vision.CASES)
def test_weights_come_back_as_they_were(name, tmp_path):
    made = golden.load(name)
    config, model = pretrained.load(golden.folder(made, tmp_path / "published"))
    _, params, rest = nnx.split(model, nnx.Param, ...)
    family = pretrained.format_of(pretrained.published.open(tmp_path / "published"))
    pretrained.save(config, nnx.to_pure_dict(params), nnx.to_pure_dict(rest), tmp_path / "again", format=family)
    before, after = (load_file(tmp_path / part / "model.safetensors") for part in ("published", "again"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[tensor], after[tensor]) for tensor in before)
    again, _ = pretrained.load(tmp_path / "again")
    assert again == config


@pytest.mark.parametrize("name", FULL)
def test_full_sizes(name):
    said, expected = FULL[name]
    config = pretrained.formats()["vit-timm" if name.startswith("vit") else "resnet-classic"].config(said)
    params = nnx.state(nnx.eval_shape(lambda: config.build(rngs=nnx.Rngs(0))), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_hugging_face_states_the_same_sizes():
    said = {
        "num_channels": 3,
        "embedding_size": 64,
        "hidden_sizes": [256, 512, 1024, 2048],
        "depths": [3, 4, 6, 3],
        "layer_type": "bottleneck",
        "num_labels": 1000,
    }
    assert pretrained.formats()["resnet"].config(said) == resnet.resnet50(channels=3, outputs=1000)


@pytest.mark.parametrize(
    ("family", "said", "message"),
    [
        ("resnet", {"depths": [1]}, "does not state hidden_sizes, embedding_size"),
        (
            "resnet",
            {"depths": [1], "hidden_sizes": [8], "embedding_size": 8, "hidden_act": "prelu"},
            "hidden_act: is not something",
        ),
        ("resnet-classic", {"architecture": "resnext50_32x4d"}, '"resnext50_32x4d" is not there'),
        ("vit", {"image_size": 224}, "does not state num_channels"),
        ("vit-timm", {"architecture": "vit_base_r50_s16_224"}, "is not there"),
    ],
)
def test_a_config_of_something_else_is_refused(family, said, message):
    with pytest.raises(InputError, match=message):
        pretrained.formats()[family].config(said)


@pytest.mark.parametrize("changes", [{"norm": "group", "groups": 4}, {"stem_kernel": 3}, {"shortcut": "padding"}])
def test_a_model_without_a_published_counterpart_is_not_written(changes, tmp_path):
    config = resnet.resnet18(channels=3, outputs=2, **changes)
    with pytest.raises(InputError, match="fits none of its published formats"):
        pretrained.save(config, {}, {}, tmp_path)


def pictures(folder, side=24):
    """Forty pictures of two classes, told apart by their colour, and not all of one size."""
    rng = np.random.default_rng(0)
    for place, name in enumerate(("red", "green")):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 120, (side, side + i % 3, 3), dtype=np.uint8)
            pixels[..., place] += 120
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_fine_tuning_on_a_folder_of_images(tmp_path):
    """Sizes come from the weights, the head from the folder; what is frozen stays as it was published."""
    made = golden.load("resnet_basic")
    published = golden.folder(made, tmp_path / "published")
    experiment = replace(
        recipes.load("vision.finetune", smoke=True),
        {
            "task.data": Folder(path=str(pictures(tmp_path / "photos"))),
            "task.statistics.size": (24, 24),
            "checkpoint.init_from": str(published),
            "optim.frozen": ("^stem", "^stages/0"),
            "train.batch_size": 8,
        },
    )
    run = suite.train(experiment, tmp_path / "run")
    model = run.model
    assert run.experiment.model.widths == (16, 24) and run.experiment.model.outputs == 2
    kernel = golden.draw("resnet.embedder.embedder.convolution.weight", (8, 3, 7, 7))
    np.testing.assert_array_equal(model.stem.conv.kernel[...], kernel.transpose(2, 3, 1, 0))
    name = "resnet.encoder.stages.1.layers.0.layer.0.convolution.weight"
    changed = golden.draw(name, made.shapes[name]).transpose(2, 3, 1, 0)
    moved = np.abs(np.asarray(model.stages[1][0].layers[0].conv.kernel[...]) - changed).max()
    assert 0 < moved < 0.1


def test_the_recipe_of_imagenet_on_generated_images(tmp_path):
    """ImageNet itself is too large to be here: the same task, network and augmentation on a folder."""
    photos = Folder(path=str(pictures(tmp_path / "photos", 40)))
    experiment = recipes.load("vision.imagenet_resnet50", smoke=True)
    experiment = replace(experiment, {"task.data": photos, "task.statistics.size": (40, 40)})
    run = suite.train(experiment, tmp_path / "run")
    losses = [value for value in run.history["train/loss"] if value is not None]
    assert losses and np.isfinite(losses).all()
    assert np.isfinite(run.metrics["validation/accuracy"])
