"""wav2vec2-base with CTC on two recordings of 10 s, two of its parts, and a small Conformer on 16 recordings of 10 s.

Training steps: all parameters, AdamW, dropout 0.1, no masking and no dropped layers on either side. Random weights.
Peers: transformers' Wav2Vec2ForCTC and its modules, and a model of torchaudio's Conformer with our stem and head, eager
and compiled. Both sides get the allocator setting of ``suite.runtime.allocation.keep_memory`` where it helps them.
Arithmetic is the same; torchaudio's Conformer has no positions, so neither has ours here.

    python -m benchmarks.audio
"""

import numpy as np

from benchmarks.harness import keep_pages, main, variant

BATCH, SAMPLES, CHARACTERS, TARGET = 2, 160_000, 32, 80
FRAMES, WIDTH, TAPS, GROUPS = 499, 768, 128, 16
MELS, ROWS, MEL_FRAMES, LAYERS, SMALL, HEADS, KERNEL = 80, 16, 1000, 4, 144, 4, 31


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    waves = rng.standard_normal((BATCH, SAMPLES)).astype(np.float32)
    return waves, rng.integers(1, CHARACTERS, (BATCH, TARGET)).astype(np.int32)


def small_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((ROWS, MEL_FRAMES, MELS)).astype(np.float32)
    return features, rng.integers(1, CHARACTERS, (ROWS, TARGET)).astype(np.int32)


# Ours


def our_step(config, compute: str, inputs: np.ndarray, targets: np.ndarray):
    """A training step with CTC."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.nn.audio.ctc import ctc_loss
    from suite.training import precision

    model = precision.apply(config.build(rngs=nnx.Rngs(0)), Precision(compute=compute))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params, rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)
    tx = optax.adamw(1e-5)

    def loss(params, rest, key, inputs, targets):
        model = nnx.merge(graph, params, rest)
        mask = jnp.ones(inputs.shape[:2], bool)
        outputs, real = model(inputs, mask, rngs=nnx.Rngs(dropout=key))
        losses, _ = ctc_loss(outputs, real, targets, jnp.ones(targets.shape, bool))
        return losses.mean(), nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

    def step(state, *batch):
        i, params, rest, opt = state
        key = jax.random.fold_in(jax.random.key(0), i)
        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest, key, *batch)
        updates, opt = tx.update(grads, opt, params)
        return (i + 1, optax.apply_updates(params, updates), rest, opt), value

    step = jax.jit(step, donate_argnums=0)
    state = jnp.int32(0), params, rest, tx.init(params)
    batch = jnp.asarray(inputs), jnp.asarray(targets)

    def run():
        nonlocal state
        state, value = step(state, *batch)
        return float(value)

    return run


def our_training(compute: str):
    from suite.models.wav2vec2 import Config
    from suite.runtime import allocation

    allocation.keep_memory()
    return our_step(Config(outputs=CHARACTERS, mask_time=0.0), compute, *data())


def our_conformer(compute: str):
    from suite.models.audio import Config
    from suite.runtime import allocation

    allocation.keep_memory()
    config = Config(
        inputs=MELS, outputs=CHARACTERS, layers=LAYERS, width=SMALL, heads=HEADS, kernel=KERNEL, positions="none"
    )
    return our_step(config, compute, *small_data())


def our_features(compute: str):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.models.wav2vec2 import Config, Encoder
    from suite.runtime import allocation
    from suite.training import precision

    allocation.keep_memory()
    encoder = Encoder(Config(outputs=CHARACTERS, layers=0), rngs=nnx.Rngs(0))
    graph, state = nnx.split(precision.apply(encoder, Precision(compute=compute)))
    extract = jax.jit(lambda state, waves: nnx.merge(graph, state)._extract(waves, jnp.ones(waves.shape, bool))[0])
    waves = jnp.asarray(data()[0])
    return lambda: extract(state, waves).block_until_ready()


def our_positions(compute: str):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from suite.experiment.sections import Precision
    from suite.nn.conv1d import PositionalConv
    from suite.runtime import allocation
    from suite.training import precision

    allocation.keep_memory()
    layer = PositionalConv(WIDTH, TAPS, GROUPS, rngs=nnx.Rngs(0))
    graph, params = nnx.split(precision.apply(layer, Precision(compute=compute)))
    gradient = jax.jit(jax.grad(lambda params, x: jnp.square(nnx.merge(graph, params)(x)).sum(), (0, 1)))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((BATCH, FRAMES, WIDTH)), jnp.float32)
    return lambda: jax.block_until_ready(gradient(params, x))


# Peers


def torch_speech(keep: bool):
    if keep:
        keep_pages()
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    config = Wav2Vec2Config(vocab_size=CHARACTERS, layerdrop=0.0, mask_time_prob=0.0, ctc_loss_reduction="mean")
    return Wav2Vec2ForCTC(config).train()


def torch_step(forward, parameters, narrow: bool):
    """A training step of what ``forward`` computes."""
    import torch

    optimizer = torch.optim.AdamW(parameters, 1e-5, weight_decay=1e-4, fused=True)

    def run():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = forward()
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def torch_training(narrow: bool, compiled: bool, keep: bool):
    model = torch_speech(keep)
    import torch

    waves, targets = map(torch.tensor, data())
    forward = torch.compile(model) if compiled else model
    return torch_step(lambda: forward(waves, labels=targets.long()).loss, model.parameters(), narrow)


def torch_features(narrow: bool, compiled: bool, keep: bool):
    model = torch_speech(keep).wav2vec2.feature_extractor.eval()
    import torch

    waves = torch.tensor(data()[0])
    if narrow:
        model, waves = model.bfloat16(), waves.bfloat16()
    forward = torch.compile(model) if compiled else model

    def run():
        with torch.inference_mode():
            return forward(waves)

    return run


def torch_positions(narrow: bool, compiled: bool, keep: bool):
    model = torch_speech(keep).wav2vec2.encoder.pos_conv_embed
    import torch

    model.activation = torch.nn.Identity()

    x = torch.tensor(np.random.default_rng(0).standard_normal((BATCH, FRAMES, WIDTH)), dtype=torch.float32)
    x.requires_grad_()
    forward = torch.compile(model) if compiled else model

    def run():
        model.zero_grad(set_to_none=True)
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            y = forward(x)
        y.float().square().sum().backward()

    return run


def torch_conformer(narrow: bool, compiled: bool, keep: bool):
    if keep:
        keep_pages()
    import torch
    from torchaudio.models import Conformer

    torch.manual_seed(0)
    stem = torch.nn.Sequential(
        torch.nn.Conv1d(MELS, SMALL, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv1d(SMALL, SMALL, 3, 2, 1), torch.nn.ReLU()
    )
    body = Conformer(SMALL, HEADS, 4 * SMALL, LAYERS, KERNEL, dropout=0.1)
    into, head = torch.nn.Linear(SMALL, SMALL), torch.nn.Linear(SMALL, CHARACTERS)
    model = torch.nn.ModuleList([stem, body, into, head]).train()
    features, targets = map(torch.tensor, small_data())
    frames = torch.full((ROWS,), -(-MEL_FRAMES // 4))
    lengths = torch.full((ROWS,), TARGET)
    run_body = torch.compile(body) if compiled else body

    def forward():
        x = into(stem(features.transpose(1, 2)).transpose(1, 2))
        log_probs = head(run_body(x, frames)[0]).float().log_softmax(-1)
        return torch.nn.functional.ctc_loss(log_probs.transpose(0, 1), targets.long(), frames, lengths)

    return torch_step(forward, model.parameters(), narrow)


for work, mine, peer in (
    ("wav2vec2-base train 2x10 s", our_training, torch_training),
    ("feature convolutions forward", our_features, torch_features),
    ("positional convolution forward and backward", our_positions, torch_positions),
    ("Conformer train 16x10 s", our_conformer, torch_conformer),
):
    for compute, narrow in (("float32", False), ("bfloat16", True)):
        case = f"{work} {compute}"
        variant(case, "ours")(lambda mine=mine, compute=compute: mine(compute))
        for compiled in (False, True):
            for keep in (False, True):
                name = ("torch.compile" if compiled else "torch eager") + (", keep" if keep else "")
                variant(case, name)(lambda peer=peer, a=(narrow, compiled, keep): peer(*a))

if __name__ == "__main__":
    main()
