"""HiFi-GAN's generator: a second of 8 kHz of one recording, and the gradient of 16 stretches of 0.3 seconds.

Sizes between the paper's V2 and the recipe speech.fsdd_hifigan: 64 mel bands each 100 samples, 128 channels,
upsampling by 5, 5 and 4, residual blocks of kernels 3, 7 and 11 with dilations 1, 3 and 5. Peer: PyTorch with the same
layers. Weights and mel bands are random: the time does not depend on them. ``--cpu`` prints CPU time instead, which
says something on a machine that others use, too.

    python -m benchmarks.hifigan --rounds 3 --seconds 2
    python -m benchmarks.hifigan --cpu
"""

import sys
import time

import numpy as np

from benchmarks.harness import CASES, main, variant

BANDS, CHANNELS, UPSAMPLING, KERNELS, DILATIONS = 64, 128, (5, 5, 4), (3, 7, 11), (1, 3, 5)
ANSWER, TRAIN = "HiFi-GAN, an answer: 1 x 8,000 samples", "HiFi-GAN, gradient: 16 x 2,400 samples"
SIZES = {ANSWER: (1, 81), TRAIN: (16, 25)}


def bands(case: str) -> np.ndarray:
    rows, frames = SIZES[case]
    return np.random.default_rng(0).standard_normal((rows, frames, BANDS)).astype(np.float32)


def ours(case: str, compute: str):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from suite.models import hifigan

    config = hifigan.Config(
        inputs=BANDS,
        channels=CHANNELS,
        upsampling=UPSAMPLING,
        kernels=KERNELS,
        dilations=DILATIONS,
        discriminators=False,
    )
    model = config.build(rngs=nnx.Rngs(0))
    for _, layer in nnx.iter_modules(model):
        if hasattr(layer, "set_view"):
            layer.set_view(compute)
    graph, params = nnx.split(model)
    frames = jnp.asarray(bands(case))
    mask = jnp.ones(frames.shape[:2], bool)
    made = lambda params: nnx.merge(graph, params)(frames, mask)
    compiled = jax.jit(made if case == ANSWER else jax.grad(lambda params: jnp.square(made(params)).mean()))
    return lambda: jax.block_until_ready(compiled(params))


def theirs(case: str):
    import torch
    from torch import nn
    from torch.nn.functional import leaky_relu

    torch.set_num_threads(2)

    class Block(nn.Module):
        def __init__(self, channels, taps):
            super().__init__()
            half = (taps - 1) // 2
            self.dilated = nn.ModuleList(
                [nn.Conv1d(channels, channels, taps, padding=half * step, dilation=step) for step in DILATIONS]
            )
            self.plain = nn.ModuleList([nn.Conv1d(channels, channels, taps, padding=half) for _ in DILATIONS])

        def forward(self, x):
            for dilated, plain in zip(self.dilated, self.plain, strict=True):
                x = x + plain(leaky_relu(dilated(leaky_relu(x, 0.1)), 0.1))
            return x

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.entry = nn.Conv1d(BANDS, CHANNELS, 7, padding=3)
            widths = [CHANNELS >> i for i in range(len(UPSAMPLING) + 1)]
            self.ups = nn.ModuleList(
                [
                    nn.ConvTranspose1d(wide, wide // 2, 2 * factor, factor, (factor + 1) // 2, factor % 2)
                    for wide, factor in zip(widths, UPSAMPLING, strict=False)
                ]
            )
            self.blocks = nn.ModuleList(
                [nn.ModuleList([Block(width, taps) for taps in KERNELS]) for width in widths[1:]]
            )
            self.head = nn.Conv1d(widths[-1], 1, 7, padding=3)

        def forward(self, frames):
            x = self.entry(frames)
            for up, blocks in zip(self.ups, self.blocks, strict=True):
                x = up(leaky_relu(x, 0.1))
                x = sum(block(x) for block in blocks) / len(blocks)
            return torch.tanh(self.head(leaky_relu(x, 0.1)))

    torch.manual_seed(0)
    model, frames = Generator(), torch.tensor(bands(case)).transpose(1, 2).contiguous()

    def answer():
        with torch.inference_mode():
            return model(frames)

    def gradient():
        model.zero_grad(set_to_none=True)
        model(frames).square().mean().backward()

    return answer if case == ANSWER else gradient


for _case in SIZES:
    variant(_case, "torch")(lambda case=_case: theirs(case))
    variant(_case, "ours")(lambda case=_case: ours(case, "float32"))
    variant(_case, "ours bfloat16")(lambda case=_case: ours(case, "bfloat16"))


def cpu_times(calls: int = 5) -> None:
    """Prints seconds of CPU time a call, all threads together."""
    for case, variants in CASES.items():
        for name, make in variants.items():
            step = make()
            step()
            begun = time.process_time()
            for _ in range(calls):
                step()
            print(f"{case}, {name}: {(time.process_time() - begun) / calls:.3f} s", flush=True)


if __name__ == "__main__":
    cpu_times() if "--cpu" in sys.argv else main()
