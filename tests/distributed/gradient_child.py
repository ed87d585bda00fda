"""Gradients of small models, above all of families that tests.families has not, on one device and on eight.

These are data 2, fsdp 2, tensor 2.

Dropout is on. Prints one JSON object: family -> layout -> the largest difference of any parameter's gradient, relative
to the largest value of all gradients (some, as that of a bias of keys, are nothing but rounding).
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.experiment.sections import Parallel
from suite.models import decoder, seq2seq, transformer, vit, wav2vec2, whisper
from suite.parallel import sharding
from suite.parallel.layout import Layout, laid_out
from suite.tree import map_paths, paths

ROWS, LENGTH = 8, 16
LAYOUTS = {"mixed": Parallel(data=2, fsdp=2, tensor=2), "sequence": Parallel(data=2, fsdp=2, tensor=2, sequence=True)}


def families():
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(3, 40, (ROWS, LENGTH)), jnp.int32)
    mask = jnp.arange(LENGTH) < jnp.asarray(rng.integers(5, LENGTH, ROWS))[:, None]
    normal = lambda *shape: jnp.asarray(rng.standard_normal((ROWS, *shape)), jnp.float32)
    frames = jnp.ones((ROWS, 64), bool)
    body = {"layers": 2, "width": 32, "heads": 4, "feed_forward": 64}
    convs = {"conv_widths": (16, 16), "conv_kernels": (10, 4), "conv_strides": (5, 4)}
    return {
        "transformer": (transformer.Config(vocab_size=40, outputs=2, **body), (tokens, mask)),
        "decoder": (decoder.Config(vocab_size=40, kv_heads=2, **body), (tokens, mask)),
        "seq2seq": (seq2seq.Config(vocab_size=40, **body), (tokens, mask, tokens[:, ::2])),
        "vit": (
            vit.Config(
                height=8, width=8, channels=3, patch=4, outputs=5, layers=2, hidden=32, heads=4, feed_forward=64
            ),
            (normal(8, 8, 3),),
        ),
        "wav2vec2": (
            wav2vec2.Config(outputs=10, pooling="mean", position_kernel=8, position_groups=4, **convs, **body),
            (normal(800), jnp.ones((ROWS, 800), bool)),
        ),
        "whisper": (whisper.Config(inputs=20, outputs=10, pooling="mean", **body), (normal(64, 20), frames)),
    }


def gradients(config, inputs, parallel):
    graph, params, rest = nnx.split(config.build(rngs=nnx.Rngs(0)), nnx.Param, ...)
    params, rest, layout = nnx.to_pure_dict(params), nnx.to_pure_dict(rest), Layout()
    if parallel is not None:
        mesh = sharding.make_mesh(parallel)
        layout, specs = sharding.layout(parallel, mesh), sharding.param_specs(params, config.sharding, mesh)
        params = map_paths(lambda path, leaf: jax.device_put(leaf, jax.NamedSharding(mesh, specs[path])), params)
        inputs = jax.device_put(inputs, sharding.batch_sharding(mesh))

    def loss(params):
        with laid_out(layout):
            out = nnx.merge(graph, params, rest)(*inputs, rngs=nnx.Rngs(dropout=1))
            return jnp.sin(out).mean()

    return {path: np.asarray(leaf) for path, leaf in paths(jax.jit(jax.grad(loss))(params)).items()}


def main(*names):
    assert jax.device_count() == 8
    found = {}
    for family, (config, inputs) in families().items():
        if names and family not in names:
            continue
        one = gradients(config, inputs, None)
        for name, parallel in LAYOUTS.items():
            if name == "sequence" and family not in ("transformer", "decoder"):
                continue
            other = gradients(config, inputs, parallel)
            largest = max(float(np.abs(leaf).max()) for leaf in one.values())
            found.setdefault(family, {})[name] = max(float(np.abs(other[p] - one[p]).max()) for p in one) / largest
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
