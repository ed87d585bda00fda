"""A class-conditional U-Net on pictures of 28 x 28 pixels: a training step of 64, and 64 pictures in 20 steps of Heun.

The network of ``vision.fashion_mnist_flow``, random weights. Training: rectified flow, AdamW, gradients clipped, all
parameters. Sampling: guidance 1.5, so two answers of the network an evaluation, 39 evaluations. Peer: the same network
in PyTorch, eager and compiled, in the memory format "channels last", which is the faster one. `--check` compares the
networks' numbers of parameters.

    python -m benchmarks.generation
"""

import sys
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import keep_pages, main, variant

ROWS, SIDE, CLASSES, STEPS, GUIDANCE = 64, 28, 10, 20, 1.5
PATCH, WIDTHS, GROUPS, SIZE, HEADS = 2, (64, 96), 8, 128, 4


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (ROWS, SIDE, SIDE, 1)).astype(np.uint8), rng.integers(0, CLASSES, ROWS)


# Ours


def ours(compute: str):
    import jax
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.models import unet
    from suite.runtime import allocation
    from suite.training import precision

    allocation.keep_memory()
    config = unet.Config(channels=1, outputs=CLASSES, patch=PATCH, widths=WIDTHS, blocks=1, attention=())
    build = lambda: precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute))
    graph = nnx.split(nnx.eval_shape(build), nnx.Param)[0]
    params = jax.jit(lambda: nnx.to_pure_dict(nnx.state(build(), nnx.Param)))()
    return lambda params: nnx.merge(graph, params), params


def our_training(compute: str):
    import jax
    import jax.numpy as jnp
    import optax

    from suite.decoding.flows import Flow

    model, params = ours(compute)
    images, labels = map(jnp.asarray, data())
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))

    def loss(params, images, labels, key):
        noise_key, level_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, images.shape)
        level = jax.random.normal(level_key, (ROWS,))
        given, time, wanted = Flow().example(images.astype(jnp.float32) / 127.5 - 1, noise, level)
        return jnp.square(model(params)(given, time, labels) - wanted).mean()

    def step(state, images, labels):
        params, opt, key = state
        key, own = jax.random.split(key)
        value, grads = jax.value_and_grad(loss)(params, images, labels, own)
        updates, opt = tx.update(grads, opt, params)
        return (optax.apply_updates(params, updates), opt, key), value

    step = jax.jit(step, donate_argnums=0)
    state = params, jax.jit(tx.init)(params), jax.random.key(0)

    def run():
        nonlocal state
        state, value = step(state, images, labels)
        return float(value)

    return run


def our_sampling(compute: str):
    import jax
    import jax.numpy as jnp

    from suite.decoding.flows import Flow, sample

    model, params = ours(compute)
    labels = jnp.asarray(data()[1])

    def make(params, key):
        def network(noisy, time, doubled):
            both = jnp.concatenate([labels, jnp.full_like(labels, CLASSES)]) if doubled else labels
            return model(params)(noisy, time, both)

        noise = jax.random.normal(key, (ROWS, SIDE, SIDE, 1))
        steps, guidance = jnp.full(ROWS, STEPS), jnp.full(ROWS, GUIDANCE)
        return sample(Flow(), network, noise, steps, guidance)

    make = jax.jit(make)
    return lambda: np.asarray(make(params, jax.random.key(0)))


# Peer


def torch_network():
    """The same network, with the images' channels in front."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def conv(inputs, outputs, size=3):
        return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, inputs, outputs, attends=False):
            super().__init__()
            self.first_norm, self.first = nn.GroupNorm(GROUPS, inputs), conv(inputs, outputs)
            self.second_norm, self.second = nn.GroupNorm(GROUPS, outputs), conv(outputs, outputs)
            self.modulation = nn.Linear(SIZE, 2 * outputs)
            self.shortcut = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
            self.norm = nn.LayerNorm(outputs, eps=1e-6) if attends else None
            if attends:
                self.qkv, self.out = nn.Linear(outputs, 3 * outputs), nn.Linear(outputs, outputs)

        def forward(self, x, vector):
            y = self.first(F.silu(self.first_norm(x)))
            more, added = self.modulation(vector)[:, :, None, None].chunk(2, 1)
            y = self.second(F.silu(self.second_norm(y) * (1 + more) + added)) + self.shortcut(x)
            return y if self.norm is None else y + self.attended(y)

        def attended(self, y):
            rows, channels, height, width = y.shape
            places = self.norm(y.flatten(2).transpose(1, 2))
            split = self.qkv(places).reshape(rows, height * width, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).reshape(rows, height * width, channels)
            return self.out(mixed).transpose(1, 2).reshape(y.shape)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            first, second = WIDTHS
            self.time = nn.Sequential(nn.Linear(SIZE, SIZE), nn.SiLU(), nn.Linear(SIZE, SIZE))
            self.classes = nn.Embedding(CLASSES + 1, SIZE)
            self.stem = conv(PATCH**2, first)
            self.high, self.down, self.low = Block(first, first), conv(4 * first, second, 1), Block(second, second)
            self.middle = nn.ModuleList([Block(second, second, True), Block(second, second)])
            self.low_up, self.up, self.high_up = Block(2 * second, second), conv(second, first), Block(2 * first, first)
            self.norm, self.head = nn.GroupNorm(GROUPS, first), conv(first, PATCH**2)
            half = SIZE // 2
            self.register_buffer("frequencies", 10_000.0 ** -(torch.arange(half) / half))

        def forward(self, images, time, label):
            angles = 1000 * time[:, None] * self.frequencies
            vector = F.silu(self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.classes(label))
            x = self.stem(F.pixel_unshuffle(images, PATCH))
            high = self.high(x, vector)
            low = self.low(self.down(F.pixel_unshuffle(high, 2)), vector)
            x = low
            for block in self.middle:
                x = block(x, vector)
            x = self.low_up(torch.cat([x, low], 1), vector)
            x = self.up(F.interpolate(x, scale_factor=2))
            x = self.high_up(torch.cat([x, high], 1), vector)
            return F.pixel_shuffle(self.head(F.silu(self.norm(x))), PATCH)

    torch.manual_seed(0)
    return UNet().to(memory_format=torch.channels_last)


def torch_data():
    import torch

    images, labels = data()
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)


def torch_training(narrow: bool, compiled: bool):
    keep_pages()
    import torch

    model = torch_network()
    images, labels = torch_data()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    forward = torch.compile(model) if compiled else model

    def run():
        optimizer.zero_grad(set_to_none=True)
        picture = images.float() / 127.5 - 1
        noise, time = torch.randn_like(picture), torch.sigmoid(torch.randn(ROWS))
        share = time[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            predicted = forward((1 - share) * noise + share * picture, time, labels)
        loss = (predicted.float() - (picture - noise)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return run


def torch_sampling(narrow: bool, compiled: bool):
    keep_pages()
    import torch

    model = torch_network().eval()
    _, labels = torch_data()
    both = torch.cat([labels, torch.full_like(labels, CLASSES)])
    forward = torch.compile(model) if compiled else model

    def velocity(x: Any, time: float) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            conditional, free = forward(torch.cat([x, x]), torch.full((2 * ROWS,), time), both).float().chunk(2)
        return free + GUIDANCE * (conditional - free)

    def run():
        with torch.inference_mode():
            x = torch.randn(ROWS, 1, SIDE, SIDE).to(memory_format=torch.channels_last)
            for step in range(STEPS):
                slope = velocity(x, step / STEPS)
                moved = x + slope / STEPS
                if step + 1 < STEPS:
                    moved = x + (slope + velocity(moved, (step + 1) / STEPS)) / (2 * STEPS)
                x = moved
            return x.numpy()

    return run


def check() -> None:
    """Whether both networks have as many parameters."""
    import jax

    own = sum(leaf.size for leaf in jax.tree.leaves(ours("float32")[1]))
    peer = sum(parameter.numel() for parameter in torch_network().parameters())
    print(f"parameters: ours {own:,}, peer {peer:,}")
    assert own == peer


for work, mine, theirs in (("train", our_training, torch_training), ("sample", our_sampling, torch_sampling)):
    for compute, narrow in (("float32", False), ("bfloat16", True)):
        case = f"U-Net 28x28 b64 {work} {compute}"
        variant(case, "ours")(partial(mine, compute))
        for compiled in (False, True):
            name = "torch.compile" if compiled else "torch eager"
            variant(case, name)(partial(theirs, narrow, compiled))

if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        main()
