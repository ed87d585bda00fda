"""One training step of the 784-128-10 network, batch 128, Adam, float32: bare, without an input pipeline.

Ours as the trainer runs it: the model split once, a pure function of nested dicts, the state donated, and either
one step or 50 steps a call (the recipe's ``steps_per_dispatch``). Work is small, so much of a step is dispatch.

    python -m benchmarks.dnn
"""

import numpy as np

from benchmarks.harness import main, variant

BATCH, STEPS = 128, 50
CASE = "784-128-10 b128 Adam train step"


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((STEPS, BATCH, 784), dtype=np.float32), rng.integers(0, 10, (STEPS, BATCH))


def ours():
    """(step function of (state, batch), initial state)."""
    import jax
    import optax
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.models.dnn import Config
    from suite.runtime import allocation
    from suite.training import precision

    allocation.keep_memory()
    model = precision.apply(Config(inputs=784, outputs=10).build(rngs=nnx.Rngs(0)), Precision())
    graph, params = nnx.split(model, nnx.Param)
    params = nnx.to_pure_dict(params)
    tx = optax.adam(1e-3)

    def loss(params, x, y):
        logits = nnx.merge(graph, params)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(state, batch):
        params, opt = state
        value, grads = jax.value_and_grad(loss)(params, *batch)
        updates, opt = tx.update(grads, opt, params)
        return (optax.apply_updates(params, updates), opt), value

    return step, (params, tx.init(params))


@variant(CASE, "ours, 1 step a call")
def _():
    import jax

    step, state = ours()
    step = jax.jit(step, donate_argnums=0)
    (xs, ys), i = data(), 0

    def run():
        nonlocal state, i
        i = (i + 1) % STEPS
        state, value = step(state, (xs[i], ys[i]))
        return float(value)

    return run


@variant(CASE, "ours, 50 steps a call")
def _():
    import jax

    step, state = ours()
    steps = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0)
    batches = data()

    def run():
        nonlocal state
        state, values = steps(state, batches)
        return float(values[-1])

    return run, STEPS


def torch_step(fused: bool, compiled: bool):
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=fused)
    forward = torch.compile(model) if compiled else model
    xs, ys = map(torch.tensor, data())
    i = 0

    def run():
        nonlocal i
        i = (i + 1) % STEPS
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(forward(xs[i]), ys[i])
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


variant(CASE, "torch eager")(lambda: torch_step(False, False))
variant(CASE, "torch eager, fused Adam")(lambda: torch_step(True, False))
variant(CASE, "torch.compile, fused Adam")(lambda: torch_step(True, True))

if __name__ == "__main__":
    main()
