"""Distances of two recordings: known ones of filters whose response is a cosine of the mel scale."""

import numpy as np
import pytest

from suite.evaluation.metrics.speech import distances

RATE = 8000


def noise(size=16000):
    return 0.1 * np.random.default_rng(0).standard_normal(size)


def filtered(samples, response):
    """Samples of which the spectrum is multiplied by ``response`` of the place, 0 to 1, on the mel scale."""
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    mel = lambda hertz: np.log10(1 + np.asarray(hertz) / 700)
    return np.fft.irfft(np.fft.rfft(samples) * response(mel(frequencies) / mel(RATE / 2)), len(samples))


def test_a_recording_is_not_far_from_itself():
    assert distances(noise(), noise(), RATE) == (0, 0)


def test_loudness_is_not_timbre():
    distortion, spectral = distances(noise(), 2 * noise(), RATE)
    assert distortion == pytest.approx(0, abs=1e-6) and spectral == pytest.approx(20 * np.log10(2))


@pytest.mark.parametrize("order", [1, 5, 13])
def test_a_cosine_of_the_logarithm_is_one_coefficient(order):
    """Its amplitude a is the difference of cepstrum ``order``: 10 / ln 10 times the root of 2 a squared."""
    distortion, _ = distances(noise(), filtered(noise(), lambda mel: np.exp(0.2 * np.cos(order * np.pi * mel))), RATE)
    assert distortion == pytest.approx(10 / np.log(10) * np.sqrt(2) * 0.2, rel=0.1)


def test_what_lies_beyond_the_last_coefficient_is_left_out():
    distortion, _ = distances(noise(), filtered(noise(), lambda mel: np.exp(0.2 * np.cos(16 * np.pi * mel))), RATE)
    assert distortion < 0.3 * 10 / np.log(10) * np.sqrt(2) * 0.2


def test_silence_counts_as_lying_80_decibels_below():
    loud = np.concatenate([noise(), np.zeros(16000)])
    faint = np.concatenate([noise(), 1e-7 * noise()])
    assert distances(loud, faint, RATE)[1] == pytest.approx(0, abs=0.02)
