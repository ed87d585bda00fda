"""WaveNet: cached generation, a sample of one stream or of 32, and a training step of 8 stretches of half a second.

Sizes of the recipe speech.fsdd_wavenet: 2 cycles of 9 dilations, 48 channels, 96 of the output, 256 categories of the
mu-law, mel bands each 100 samples at 8 kHz. Ours: the task's predict and the trainer's step. Peer: PyTorch with the
same layers joined in the same way: one product a convolution, one for all skips; ring buffers written in place, and
mel bands projected once a frame. Its loop runs eagerly, or the step of a sample is traced. Weights and mel bands are
random: the time does not depend on them. A time of generation is that of one sample of all streams; 0.125 ms is real
time at 8 kHz.

    python -m benchmarks.wavenet --rounds 3 --seconds 2
"""

import numpy as np

from benchmarks.harness import main, variant

CYCLES, DILATIONS, WIDTH, SKIP, CLASSES, BANDS, CONDITION, HOP = 2, 9, 48, 96, 256, 64, 64, 100
STEPS = [2**i for i in range(DILATIONS)] * CYCLES
FRAMES = 10
"""Hops that are generated at once."""
ROWS, LENGTH = 8, 4000
"""Of a training step."""


def bands(rows: int, frames: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, frames + 1, BANDS)).astype(np.float32)


def network():
    from flax import nnx

    from suite.models import wavenet

    return wavenet.Config(inputs=BANDS).build(rngs=nnx.Rngs(0))


def generated(rows: int):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from suite.decoding.generation import row_keys

    graph, state = nnx.split(network())
    frames, mask = jnp.asarray(bands(rows, FRAMES)), jnp.ones((rows, FRAMES + 1), bool)
    keys, temperature = row_keys(jnp.arange(rows, dtype=jnp.uint32)), jnp.ones(rows)

    @jax.jit
    def generate(state, frames):
        return nnx.merge(graph, state).generate(frames, mask, HOP, keys, temperature)

    return lambda: generate(state, frames).block_until_ready(), FRAMES * HOP


def stack():
    """The same network in PyTorch."""
    import torch
    from torch import nn

    class WaveNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.levels, self.samples = nn.Linear(2, WIDTH), nn.Embedding(CLASSES, WIDTH)
            self.frames = nn.Conv1d(BANDS, CONDITION, 3, padding=1)
            self.convs = nn.ModuleList([nn.Linear(2 * WIDTH, 2 * WIDTH) for _ in STEPS])
            self.conditions = nn.ModuleList([nn.Linear(CONDITION, 2 * WIDTH, bias=False) for _ in STEPS])
            self.outs = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in STEPS])
            self.skip, self.hidden = nn.Linear(len(STEPS) * WIDTH, SKIP), nn.Linear(SKIP, SKIP)
            self.head = nn.Linear(SKIP, CLASSES)

        def enter(self, samples):
            companded = torch.sign(samples) * torch.log1p(255 * samples.abs()) / float(np.log(256))
            index = ((companded + 1) / 2 * 255 + 0.5).long()
            return self.levels(torch.stack([samples, companded], -1)) + self.samples(index)

        def leave(self, gates):
            return self.head(torch.relu(self.hidden(torch.relu(self.skip(gates)))))

        def condition(self, frames):
            return nn.functional.silu(self.frames(frames.transpose(1, 2))).transpose(1, 2)

        def forward(self, samples, frames):
            x = self.enter(nn.functional.pad(samples, (1, 0))[:, :-1])
            condition, gates = self.condition(frames), []
            for step, conv, project, out in zip(STEPS, self.convs, self.conditions, self.outs, strict=True):
                added = nn.functional.interpolate(
                    project(condition).transpose(1, 2),
                    (condition.shape[1] - 1) * HOP + 1,
                    mode="linear",
                    align_corners=True,
                ).transpose(1, 2)[:, :-1]
                before = nn.functional.pad(x, (0, 0, step, 0))[:, : x.shape[1]]
                value, gate = (conv(torch.cat([before, x], -1)) + added).chunk(2, -1)
                gates.append(torch.tanh(value) * torch.sigmoid(gate))
                x = x + out(gates[-1])
            return self.leave(torch.cat(gates, -1))

        def step(self, samples, added, before):
            """Logits, and the input of each layer, of one sample."""
            x, gates, inputs = self.enter(samples), [], []
            for i, (conv, out) in enumerate(zip(self.convs, self.outs, strict=True)):
                inputs.append(x)
                value, gate = (conv(torch.cat([before[i], x], -1)) + added[i]).chunk(2, -1)
                gates.append(torch.tanh(value) * torch.sigmoid(gate))
                x = x + out(gates[-1])
            return self.leave(torch.cat(gates, -1)), inputs

    torch.manual_seed(0)
    return WaveNet()


def looped(rows: int, traced: bool):
    import torch

    torch.set_num_threads(2)
    model, frames = stack().eval(), torch.tensor(bands(rows, FRAMES))
    step = model.step
    if traced:
        example = (
            torch.zeros(rows),
            [torch.zeros(rows, 2 * WIDTH)] * len(STEPS),
            [torch.zeros(rows, WIDTH)] * len(STEPS),
        )
        with torch.inference_mode():
            step = torch.jit.trace_module(model, {"step": example}, check_trace=False).step

    @torch.inference_mode()
    def run():
        condition = model.condition(frames)
        added = torch.stack([project(condition) for project in model.conditions])  # (l, b, t, 2 d)
        buffers = [torch.zeros(size, rows, WIDTH) for size in STEPS]
        samples = torch.zeros(rows)
        for n in range(FRAMES * HOP):
            frame, place = divmod(n, HOP)
            now = added[:, :, frame] + place / HOP * (added[:, :, frame + 1] - added[:, :, frame])
            before = [buffer[n % size] for buffer, size in zip(buffers, STEPS, strict=True)]
            logits, inputs = step(samples, list(now.unbind(0)), before)
            for buffer, size, x in zip(buffers, STEPS, inputs, strict=True):
                buffer[n % size] = x
            index = torch.multinomial(torch.softmax(logits, -1), 1)[:, 0]
            y = 2 * index.float() / 255 - 1
            samples = torch.sign(y) * torch.expm1(y.abs() * float(np.log(256))) / 255
        return samples

    return run, FRAMES * HOP


for _rows in (1, 32):
    _case = f"WaveNet, generation, {_rows} streams: a sample of each" if _rows > 1 else "WaveNet, generation: a sample"
    variant(_case, "ours")(lambda rows=_rows: generated(rows))
    variant(_case, "torch, eager")(lambda rows=_rows: looped(rows, False))
    variant(_case, "torch, traced")(lambda rows=_rows: looped(rows, True))

TRAIN = f"WaveNet, training: a step of {ROWS} x {LENGTH:,} samples"


def audio() -> np.ndarray:
    return (0.2 * np.random.default_rng(1).standard_normal((ROWS, LENGTH))).clip(-1, 1).astype(np.float32)


def learning(compute: str):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    model, samples, frames = network(), jnp.asarray(audio()), jnp.asarray(bands(ROWS, LENGTH // HOP))
    for _, layer in nnx.iter_modules(model):
        if hasattr(layer, "set_view"):
            layer.set_view(compute)
    graph, params = nnx.split(model)
    optimizer, mask = optax.adam(1e-3), jnp.ones(frames.shape[:2], bool)

    def loss(params):
        network = nnx.merge(graph, params)
        return network.distribution.nats(network(samples, frames, mask), samples).mean()

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    held = [params, optimizer.init(params)]

    def run():
        *held[:], value = step(*held)
        value.block_until_ready()

    return run


@variant(TRAIN, "torch")
def theirs():
    import torch

    torch.set_num_threads(2)
    model = stack().train()
    samples, frames = torch.tensor(audio()), torch.tensor(bands(ROWS, LENGTH // HOP))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    companded = torch.sign(samples) * torch.log1p(255 * samples.abs()) / float(np.log(256))
    wanted = ((companded + 1) / 2 * 255 + 0.5).long()

    def run():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(samples, frames).flatten(0, 1), wanted.flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


variant(TRAIN, "ours")(lambda: learning("float32"))
variant(TRAIN, "ours bfloat16")(lambda: learning("bfloat16"))

if __name__ == "__main__":
    main()
