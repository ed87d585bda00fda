"""The speech front end and the CTC loss beside PyTorch, float32.

Log-mel, 80 bins, of 8 recordings of 10 s: torchaudio's MelSpectrogram and logarithm, and the Whisper extractor of
transformers on PyTorch, which normalises besides. CTC loss and its gradient by the logits: 16 rows of 499 frames, 32
symbols, 60 labels.

    python -m benchmarks.speech_frontend
"""

import numpy as np

from benchmarks.harness import main, variant

MEL, CTC = "log-mel 80, 8 x 10 s", "CTC loss + gradient 16x499x32"


def recordings() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, 160_000), dtype=np.float32)


@variant(MEL, "ours")
def _():
    import jax

    from suite.nn.audio.spectral import LogMel

    front_end = jax.jit(LogMel())
    samples = jax.device_put(recordings())
    mask = jax.device_put(np.ones(samples.shape, bool))
    return lambda: front_end(samples, mask)[0].block_until_ready()


def torch_mel(compiled: bool):
    import torch
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(16_000, n_fft=400, hop_length=160, n_mels=80)
    samples = torch.tensor(recordings())
    log_mel = lambda x: mel(x).clamp(min=1e-10).log()
    log_mel = torch.compile(log_mel) if compiled else log_mel

    def run():
        with torch.no_grad():
            return log_mel(samples)

    return run


variant(MEL, "torchaudio eager")(lambda: torch_mel(False))
variant(MEL, "torchaudio torch.compile")(lambda: torch_mel(True))


@variant(MEL, "transformers Whisper extractor")
def _():
    from transformers import WhisperFeatureExtractor

    extract, samples = WhisperFeatureExtractor(), recordings()
    return lambda: extract(list(samples), sampling_rate=16_000, padding=True, return_tensors="pt")


def alignment() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((16, 499, 32), dtype=np.float32)
    frames, labels = rng.integers(300, 500, 16), rng.integers(30, 61, 16)
    return logits, frames, rng.integers(1, 32, (16, 60)), labels


@variant(CTC, "ours")
def _():
    import jax

    from suite.nn.audio.ctc import ctc_loss

    logits, frames, labels, counts = alignment()
    rest = (np.arange(499) < frames[:, None], labels.astype(np.int32), np.arange(60) < counts[:, None])
    step = jax.jit(jax.value_and_grad(lambda x, *rest: ctc_loss(x, *rest)[0].mean()))
    placed = jax.device_put((logits, *rest))
    return lambda: jax.block_until_ready(step(*placed))


@variant(CTC, "optax")
def _():
    import jax
    import optax

    logits, frames, labels, counts = alignment()
    rest = ((np.arange(499) >= frames[:, None]) * 1.0, labels, (np.arange(60) >= counts[:, None]) * 1.0)
    step = jax.jit(jax.value_and_grad(lambda x, a, b, c: optax.ctc_loss(x, a, b, c).mean()))
    placed = jax.device_put((logits, *rest))
    return lambda: jax.block_until_ready(step(*placed))


@variant(CTC, "torch eager")
def _():
    import torch

    logits, frames, labels, counts = map(torch.tensor, alignment())
    logits.requires_grad_(True)

    def run():
        logits.grad = None
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        torch.nn.functional.ctc_loss(log_probs, labels, frames, counts).backward()

    return run


if __name__ == "__main__":
    main()
