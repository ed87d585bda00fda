"""Waveforms of mel bands: the transforms undo each other, tones come back, and features that hold too little."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.errors import InputError
from suite.nn.audio.griffin_lim import check_invertible, griffin_lim, magnitudes, spectrum, waveform
from suite.nn.audio.spectral import LogMel

FRONT_END = LogMel(sample_rate=4000, window=128, hop=32, fft=256, bins=48)


def tones(size=1600):
    time = np.arange(size) / 4000
    return (0.3 * np.sin(2 * np.pi * 500 * time) + 0.1 * np.sin(2 * np.pi * 1210 * time)).astype(np.float32)[None]


def test_a_spectrum_becomes_the_samples_that_it_is_of():
    samples = tones()
    again = waveform(FRONT_END, spectrum(FRONT_END, samples, 51), jnp.ones((1, 51), bool))
    np.testing.assert_allclose(again[0, 64:-64], samples[0, 64:-64], atol=1e-5)


def test_a_program_is_no_larger_for_a_longer_recording():
    """Exported programs hold no table of the recording's length."""
    size = lambda frames: len(
        griffin_lim.lower(FRONT_END, jnp.zeros((1, frames, 48)), jnp.ones((1, frames), bool)).as_text()
    )
    assert size(800) < 1.1 * size(50)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"log": "log10", "affine": (4.0, 0.25), "scale": "slaney", "area": True},
        {"log": "decibel", "power": 1.0, "gain": 2.0},
    ],
)
def test_tones_come_back_from_their_mel_bands(changes):
    front_end = dataclasses.replace(FRONT_END, **changes)
    samples = jnp.asarray(tones())
    features, mask = front_end(samples, jnp.ones(samples.shape, bool))
    made = griffin_lim(front_end, features, mask)
    assert made.shape == (1, 1600)
    levels = [np.abs(np.fft.rfft(np.asarray(each)[0, 200:1400])) / 600 for each in (samples, made)]
    peaks = [150, 363]  # 500 and 1,210 Hz in steps of 3.33 Hz
    for peak, amplitude in zip(peaks, (0.3, 0.1), strict=True):
        assert levels[1][peak - 3 : peak + 4].max() == pytest.approx(amplitude, rel=0.5)
    again, _ = front_end(made, mask=jnp.ones(made.shape, bool))
    scale = front_end.affine[1] * {"natural": 1, "log10": 1 / np.log(10), "decibel": 10 / np.log(10)}[front_end.log]
    loud = np.asarray(features) > np.asarray(features).max() - 5 * scale
    assert np.abs(np.asarray(again) - np.asarray(features))[loud].mean() < 0.5 * scale


def test_iterations_bring_the_magnitudes_nearer():
    samples = jnp.asarray(np.random.default_rng(0).standard_normal((1, 1600)), jnp.float32)
    features, mask = FRONT_END(samples, jnp.ones(samples.shape, bool))
    wanted = magnitudes(FRONT_END, features)
    apart = [
        float(
            jnp.square(jnp.abs(spectrum(FRONT_END, griffin_lim(FRONT_END, features, mask, count), 51)) - wanted).mean()
        )
        for count in (1, 10, 60)
    ]
    assert apart[0] > apart[1] > apart[2]


def test_a_row_is_silent_behind_its_end_and_the_same_alone():
    samples = jnp.asarray(tones()).repeat(2, 0)
    features, mask = jax.jit(FRONT_END)(samples, jnp.arange(1600) < jnp.array([[1600], [640]]))
    made = griffin_lim(FRONT_END, features, mask, 5)
    assert not made[1, 640:].any()
    alone = griffin_lim(FRONT_END, features[1:, :21], mask[1:, :21], 5)
    np.testing.assert_allclose(made[1, :640], alone[0], atol=1e-3)


@pytest.mark.parametrize("changes", [{"cepstra": 13}, {"center": False}, {"range": 8.0}, {"preemphasis": 0.97}])
def test_features_that_hold_too_little_are_named(changes):
    with pytest.raises(InputError, match=f"front_end.{next(iter(changes))}"):
        check_invertible(dataclasses.replace(FRONT_END, **changes))
