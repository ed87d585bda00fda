"""Distances of two recordings: of filters whose response is a cosine of the mel scale, of tones, of warped time; and
the distortion beside another implementation's."""

import numpy as np
import pytest

from suite.data.preprocessing.pitch import fundamental_frequency
from suite.evaluation.metrics.speech_quality import (
    distances,
    duration_error,
    log_f0_error,
    mel_cepstral_distortion,
    voicing_error,
    warping_path,
)

RATE = 8000


def noise(size=16000):
    return 0.1 * np.random.default_rng(0).standard_normal(size)


def filtered(samples, response):
    """Samples of which the spectrum is multiplied by ``response`` of the place, 0 to 1, on the mel scale."""
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    mel = lambda hertz: np.log10(1 + np.asarray(hertz) / 700)
    return np.fft.irfft(np.fft.rfft(samples) * response(mel(frequencies) / mel(RATE / 2)), len(samples))


def test_a_recording_is_not_far_from_itself():
    apart = distances(noise(), noise(), RATE)
    assert apart[:2] == (0, 0) and apart.voicing_error == 0


def test_recordings_of_the_same_time_have_as_many_frames():
    with pytest.raises(ValueError, match="dtw"):
        distances(noise(8000), noise(9000), RATE)


def test_loudness_is_not_timbre():
    distortion, spectral = distances(noise(), 2 * noise(), RATE)[:2]
    assert distortion == pytest.approx(0, abs=1e-6) and spectral == pytest.approx(20 * np.log10(2))


@pytest.mark.parametrize("order", [1, 5, 13])
def test_a_cosine_of_the_logarithm_is_one_coefficient(order):
    """Its amplitude a is the difference of cepstrum ``order``: 10 / ln 10 times the root of 2 a squared."""
    distortion, *_ = distances(noise(), filtered(noise(), lambda mel: np.exp(0.2 * np.cos(order * np.pi * mel))), RATE)
    assert distortion == pytest.approx(10 / np.log(10) * np.sqrt(2) * 0.2, rel=0.1)


def test_what_lies_beyond_the_last_coefficient_is_left_out():
    distortion, *_ = distances(noise(), filtered(noise(), lambda mel: np.exp(0.2 * np.cos(16 * np.pi * mel))), RATE)
    assert distortion < 0.3 * 10 / np.log(10) * np.sqrt(2) * 0.2


def test_silence_counts_as_lying_80_decibels_below():
    loud = np.concatenate([noise(), np.zeros(16000)])
    faint = np.concatenate([noise(), 1e-7 * noise()])
    assert distances(loud, faint, RATE)[1] == pytest.approx(0, abs=0.02)


def log_mels(frames, seed):
    return np.random.default_rng(seed).standard_normal((frames, 40))


@pytest.mark.parametrize(("align", "theirs"), [("time", "pad"), ("dtw", "dtw")])
def test_the_distortion_beside_another_implementation(align, theirs):
    """Which takes base-10 logarithms of energies, and sums of cosines without a factor (Kubichek, 1993): it knows
    neither the root of 2 nor decibels."""
    peer = pytest.importorskip("mel_cepstral_distance.computation", reason="a peer: mel-cepstral-distance")
    alignment = pytest.importorskip("mel_cepstral_distance.alignment")
    ours = [log_mels(30, 0), log_mels(30 if align == "time" else 37, 1)]
    cepstra = [peer.get_MC_X_ik(2 / np.log(10) * logs, 40) for logs in ours]
    aligned = alignment.align_MC_s_D(*cepstra, 0, 13, theirs, 100)
    expected = peer.get_average_MCD(peer.get_MCD_k(*aligned[:2], 0, 13))
    factor = 10 * np.sqrt(2) / 40
    assert mel_cepstral_distortion(*ours, align) == pytest.approx(factor * expected, rel=1e-6)


def test_a_warping_path_pairs_a_slower_recording_with_the_same():
    original = log_mels(20, 0)
    slower = np.repeat(original, [1 + i % 3 for i in range(20)], 0)
    assert mel_cepstral_distortion(original, slower, "dtw") == pytest.approx(0, abs=1e-9)
    left, right = warping_path(np.array([[0.0, 5, 5], [5, 1, 0]]))
    assert (left.tolist(), right.tolist()) == ([0, 1, 1], [0, 1, 2])


def voice(hertz, seconds=0.5, rate=RATE):
    """Ten harmonics of a frequency, one a sample or one for all."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, round(seconds * rate))) / rate
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 11))


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("hertz", [75.0, 110.0, 231.7, 440.0])
def test_the_fundamental_of_harmonics_is_found(hertz, rate):
    found = fundamental_frequency(voice(hertz, rate=rate), rate, rate // 80)
    assert len(found) == 41
    np.testing.assert_allclose(found[4:-4], hertz, rtol=0.005)


def test_a_gliding_voice_is_followed_and_silence_and_noise_have_none():
    glide = voice(np.geomspace(100, 200, RATE // 2))
    samples = np.concatenate([glide, np.zeros(RATE // 2), noise(RATE // 2)])
    found = fundamental_frequency(samples, RATE, 100)
    np.testing.assert_allclose(found[4:37], 100 * 2 ** (np.arange(4, 37) / 40), rtol=0.02)
    assert not found[44:79].any() and (found[84:] > 0).mean() < 0.1


def test_errors_of_voices_count_what_both_have():
    reference, made = np.array([0, 100.0, 200, 300, 0]), np.array([0, 100.0, 200 * np.e, 0, 50])
    assert log_f0_error(reference, made) == pytest.approx(np.sqrt(1 / 2))
    assert voicing_error(reference, made) == pytest.approx(2 / 5)
    assert np.isnan(log_f0_error(reference, 0 * made))
    apart = distances(voice(120.0), voice(120 * 2 ** (1 / 12)), RATE)
    assert apart.log_f0_error == pytest.approx(np.log(2) / 12, rel=0.05) and apart.voicing_error < 0.05


def test_the_error_of_durations_is_in_their_unit():
    assert duration_error(np.array([100, 50, 30]), np.array([90, 70, 30])) == 10
