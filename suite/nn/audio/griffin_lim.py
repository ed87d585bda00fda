"""Waveforms from magnitudes of a spectrogram, or from mel bands, by Griffin and Lim's iteration.

Dims: b recordings, n samples, t frames, f mel bands, q frequencies of the FFT.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from suite.errors import InputError
from suite.nn.audio.spectral import LogMel, mel_bands, window_function

INVERSION = 100
"""Steps that the magnitudes behind mel bands are fitted in."""
_TINY = 1e-10


def check_invertible(front_end: LogMel) -> None:
    """Check that waveforms can be made of these features.

    Raises:
        InputError: they are cepstra, or a part of the energy is cut off, or frames do not stand at multiples of hop.
    """
    wrong = {
        "cepstra": front_end.cepstra != 0,
        "range": front_end.range != 0,
        "center": not front_end.center,
        "drop_last": front_end.drop_last,
        "centred_frames": front_end.centred_frames,
        "preemphasis": front_end.preemphasis != 0,
        "hop": not front_end.hop <= front_end.window,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            found = str(getattr(front_end, name))
            problem = "does not leave a waveform that can be made again of the features"
            raise InputError(f"field front_end.{name}", problem, found=found, fix="log-mel bands, as LogMel() has them")


def mel_energies(front_end: LogMel, features: Float[Array, "b t f"]) -> Float[Array, "b t f"]:
    """Energies of the mel bands that ``front_end`` took the logarithm of."""
    logs = features / front_end.affine[1] - front_end.affine[0]
    if front_end.log == "none":
        return logs
    return jnp.exp(logs / {"natural": 1.0, "log10": 1 / np.log(10), "decibel": 10 / np.log(10)}[front_end.log])


def magnitudes(front_end: LogMel, features: Float[Array, "b t f"]) -> Float[Array, "b t q"]:
    """Magnitudes of the spectrum that the mel bands were summed from, as near as non-negative ones come to them.

    Multiplicative steps of Lee and Seung, 2001: least squares whose solution stays positive.
    """
    high = front_end.high or front_end.sample_rate / 2
    bands = mel_bands(
        front_end.sample_rate, front_end.fft, front_end.bins, front_end.low, high, front_end.scale, front_end.area
    )
    energies = mel_energies(front_end, features)
    wanted = jnp.matmul(energies, bands.T, precision="highest")
    square = bands @ bands.T

    def closer(_: int, power: Array) -> Array:
        return power * wanted / jnp.maximum(jnp.matmul(power, square, precision="highest"), _TINY)

    spread = bands / np.maximum(bands.sum(0), _TINY)
    power = jax.lax.fori_loop(0, INVERSION, closer, jnp.matmul(energies, spread.T, precision="highest") + _TINY)
    return jnp.maximum(power, 0) ** (1 / front_end.power) / front_end.gain


def spectrum(front_end: LogMel, samples: Float[Array, "b n"], frames: int) -> Complex[Array, "b t q"]:
    """Fourier transform of ``frames`` windows, frame i centred on sample i hop; zeros beyond both ends."""
    half, window = front_end.fft // 2, _window(front_end)
    needed = (frames - 1) * front_end.hop + front_end.fft
    padded = jnp.pad(samples, ((0, 0), (half, max(needed - half - samples.shape[1], 0))))
    return jnp.fft.rfft(padded[:, _places(front_end, frames)] * window)


def waveform(front_end: LogMel, spectra: Complex[Array, "b t q"], mask: Bool[Array, "b t"]) -> Float[Array, "b n"]:
    """The samples whose spectrum is nearest in least squares (Griffin and Lim, 1984), n = (t - 1) hop; 0 behind a row's
    last frame."""
    frames, half, window = spectra.shape[1], front_end.fft // 2, _window(front_end)
    size = (frames - 1) * front_end.hop + front_end.fft
    index = _places(front_end, frames).reshape(-1)
    parts = jnp.fft.irfft(spectra, front_end.fft) * window
    added = lambda parts: jnp.zeros((mask.shape[0], size)).at[:, index].add(parts.reshape(mask.shape[0], -1))
    weights = added(mask[..., None] * np.square(window))
    samples = added(jnp.where(mask[..., None], parts, 0)) / jnp.maximum(weights, 1e-3)
    samples = samples[:, half : half + (frames - 1) * front_end.hop]
    return jnp.where(jnp.repeat(mask[:, 1:], front_end.hop, 1), samples, 0)


@partial(jax.jit, static_argnums=(0, 3, 4))
def griffin_lim(
    front_end: LogMel,
    features: Float[Array, "b t f"],
    mask: Bool[Array, "b t"],
    iterations: int = 60,
    momentum: float = 0.99,
) -> Float[Array, "b n"]:
    """Samples of log-mel features, n = (t - 1) hop; 0 behind a row's last frame.

    The fast form of Griffin and Lim's iteration (`Perraudin et al., 2013
    <https://doi.org/10.1109/WASPAA.2013.6701851>`_). Phases begin at random, the same for every row.

    Args:
        front_end: what computed the features.
        features: as ``front_end`` gives them.
        mask: True where a frame is real.
        iterations: how often a waveform is made.
        momentum: share of the last step that is taken again.
    """
    wanted = jnp.where(mask[..., None], magnitudes(front_end, features), 0)
    frames = features.shape[1]
    drawn = jax.vmap(lambda frame: jax.random.uniform(jax.random.fold_in(jax.random.key(0), frame), wanted.shape[2:]))
    phases = jnp.exp(2j * jnp.pi * drawn(jnp.arange(frames)))[None] * jnp.ones((wanted.shape[0], 1, 1))

    def iterate(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        phases, before = state
        rebuilt = spectrum(front_end, waveform(front_end, wanted * phases, mask), frames)
        ahead = rebuilt - momentum / (1 + momentum) * before
        return ahead / jnp.maximum(jnp.abs(ahead), 1e-16), rebuilt

    phases, _ = jax.lax.fori_loop(0, iterations, iterate, (phases, jnp.zeros_like(phases)))
    return waveform(front_end, wanted * phases, mask)


def _places(front_end: LogMel, frames: int) -> Int[Array, "t k"]:
    """Samples of each window, counted where they are used: a table of them would be as long as the recording, and part
    of an exported program."""
    return jnp.arange(frames)[:, None] * front_end.hop + jnp.arange(front_end.fft)


def _window(front_end: LogMel) -> np.ndarray:
    """(fft,) float32: the window in the middle of the transform."""
    before = (front_end.fft - front_end.window) // 2
    after = front_end.fft - front_end.window - before
    return np.pad(window_function(front_end.shape, front_end.window), (before, after))
