"""ResNet-18 on 64 images of 32x32 (training), ResNet-50 on 8 of 224x224 (training and inference).

Training: SGD with momentum, statistics of the batch, all parameters. Random weights. Ours with oneDNN, and without it,
by products. Peer: torchvision's networks, eager and compiled, in the memory format "channels last", which is the faster
one. Both sides get the allocator setting of ``suite.runtime.allocation.keep_memory``.

    python -m benchmarks.resnet
"""

import os
from functools import partial

import numpy as np

from benchmarks.harness import keep_pages, main, variant

CASES = {"ResNet-18 32x32 b64": ("resnet18", 32, 64), "ResNet-50 224x224 b8": ("resnet50", 224, 8)}


def data(side: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, side, side, 3)).astype(np.float32), rng.integers(0, 1000, (batch,))


# Ours


def without_onednn(make):
    """What `make` makes, where the library is left out."""

    def made():
        os.environ["SUITE_ONEDNN"] = "off"
        return make()

    return made


def ours(name: str, compute: str):
    import jax
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.models import resnet
    from suite.runtime import allocation
    from suite.training import precision

    allocation.keep_memory()
    make = {"resnet18": resnet.small, "resnet50": resnet.resnet50}[name]
    config = make(channels=3, outputs=1000)

    def build():
        model = precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute))
        _, params, rest = nnx.split(model, nnx.Param, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    abstract = nnx.eval_shape(lambda: precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute)))
    return nnx.split(abstract, nnx.Param, ...)[0], *jax.jit(build)()


def our_training(name: str, side: int, batch: int, compute: str):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    graph, params, rest = ours(name, compute)
    images, labels = map(jnp.asarray, data(side, batch))
    tx = optax.sgd(0.01, 0.9)

    def loss(params, rest, images, labels):
        model = nnx.merge(graph, params, rest)
        logits = model(images, rows=jnp.ones(images.shape[0], bool), rngs=nnx.Rngs(dropout=0))
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    def step(state, images, labels):
        params, rest, opt = state
        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest, images, labels)
        updates, opt = tx.update(grads, opt, params)
        return (optax.apply_updates(params, updates), rest, opt), value

    step = jax.jit(step, donate_argnums=0)
    state = params, rest, jax.jit(tx.init)(params)

    def run():
        nonlocal state
        state, value = step(state, images, labels)
        return float(value)

    return run


def our_inference(name: str, side: int, batch: int, compute: str):
    import jax
    from flax import nnx

    graph, params, rest = ours(name, compute)
    if compute == "bfloat16":
        # Kernels are rounded once, not at each call.
        params = jax.tree.map(lambda a: a.astype(compute) if a.ndim > 1 else a, params)
    images = jax.numpy.asarray(data(side, batch)[0])
    predict = jax.jit(lambda params, rest, images: nnx.merge(graph, params, rest)(images))
    return lambda: np.asarray(predict(params, rest, images))


# Peer


def torch_model(name: str, side: int, batch: int):
    keep_pages()
    import torch
    import torchvision

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)()
    if name == "resnet18":  # for small images, as ours
        model.conv1, model.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    images, labels = data(side, batch)
    images = torch.from_numpy(images).permute(0, 3, 1, 2)  # already channels last in memory
    return model.to(memory_format=torch.channels_last), images, torch.from_numpy(labels)


def torch_training(name: str, side: int, batch: int, narrow: bool, compiled: bool):
    model, images, labels = torch_model(name, side, batch)
    import torch

    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    forward = torch.compile(model) if compiled else model

    def run():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def torch_inference(name: str, side: int, batch: int, narrow: bool, compiled: bool):
    model, images, _ = torch_model(name, side, batch)
    import torch

    model.eval()
    if narrow:
        model, images = model.bfloat16(), images.bfloat16()
    forward = torch.compile(model) if compiled else model

    def run():
        with torch.inference_mode():
            return forward(images).float().numpy()

    return run


for title, size in CASES.items():
    for work, mine, peer in (("train", our_training, torch_training), ("inference", our_inference, torch_inference)):
        for compute, narrow in (("float32", False), ("bfloat16", True)):
            case = f"{title} {work} {compute}"
            own = partial(mine, *size, compute)
            variant(case, "ours")(own)
            variant(case, "ours by products")(without_onednn(own))
            for compiled in (False, True):
                variant(case, "torch.compile" if compiled else "torch eager")(
                    lambda peer=peer, size=size, a=(narrow, compiled): peer(*size, *a)
                )

if __name__ == "__main__":
    main()
