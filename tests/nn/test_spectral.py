"""The front end against torchaudio and transformers (stored, and live), padding, and SpecAugment."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.errors import InputError
from suite.nn.audio.spectral import LogMel, SpecAugment, kaldi, mfcc, standardise, whisper
from tests.parity.golden import load
from tests.parity.peers_spectral import recordings, spectral

FRONT_ENDS = {
    "htk": LogMel(bins=40, hop=200, floor=0.0),
    "slaney": LogMel(fft=512, window=320, hop=128, bins=64, scale="slaney", area=True, low=50.0, floor=0.0),
    "magnitude": LogMel(fft=256, window=256, hop=128, bins=24, power=1.0, high=7000.0, floor=0.0),
    "inside": LogMel(bins=40, hop=200, center=False, floor=0.0),
    "mfcc": mfcc(13, 40, hop=200),
    "whisper": whisper(),
    "kaldi": kaldi(),
    "ast": kaldi(40, gain=1.0, shape="symmetric"),
}


def padded(rows, length):
    mask = np.arange(length) < np.array([len(row) for row in rows])[:, None]
    samples = np.zeros((len(rows), length), np.float32)
    for i, row in enumerate(rows):
        samples[i, : len(row)] = row
    return samples, mask


def compare(golden):
    samples, mask = padded(recordings(), 3000)
    for name, front_end in FRONT_ENDS.items():
        features, real = jax.jit(front_end)(samples, mask)
        for number, (row, frames) in enumerate(zip(np.asarray(features), np.asarray(real), strict=True)):
            expected = golden.outputs[f"{name}/{number}"][: frames.sum()]  # AST's are padded
            assert row[frames].shape == expected.shape and front_end.size == row.shape[-1], name
            scale = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(row[frames] / scale, expected / scale, atol=1e-4, err_msg=name)
            assert not row[~frames].any() and not golden.outputs[f"{name}/{number}"][frames.sum() :].any()
    short, short_mask = padded([row[:800] for row in recordings()], 1000)
    made = standardise(jnp.asarray(short), jnp.asarray(short_mask))
    for number in range(2):
        np.testing.assert_allclose(made[number, :800], golden.outputs[f"wav2vec2/{number}"], atol=1e-4)
    assert not np.asarray(made)[:, 800:].any()


def test_features_are_those_of_torchaudio_and_transformers():
    compare(load("spectral"))


@pytest.mark.peers
def test_features_are_those_of_torchaudio_and_transformers_live():
    if importlib.util.find_spec("torchaudio") is None:
        pytest.skip("torchaudio is not installed")
    compare(spectral())


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_padding_changes_nothing(name):
    """What follows a row, and how far it is padded, leaves its features as they are."""
    rows = recordings()
    samples, mask = padded(rows, 4000)
    dirty = np.where(mask, samples, 9.0).astype(np.float32)
    features, real = FRONT_ENDS[name](jnp.asarray(dirty), jnp.asarray(mask))
    for i, row in enumerate(rows):
        alone, whole = FRONT_ENDS[name](jnp.asarray(row[None]), jnp.ones((1, len(row)), bool))
        assert whole.all() and int(real[i].sum()) == alone.shape[1] == FRONT_ENDS[name].frames(len(row))
        np.testing.assert_allclose(features[i, : alone.shape[1]], alone[0], atol=2e-4)


def test_short_and_empty_rows_stay_finite():
    lengths = np.array([0, 1, 150, 399])
    mask = np.arange(400) < lengths[:, None]
    samples = np.where(mask, 0.1, 0).astype(np.float32)
    for front_end in FRONT_ENDS.values():
        features, real = front_end(jnp.asarray(samples), jnp.asarray(mask))
        if front_end.floor:
            assert np.isfinite(np.asarray(features)).all()
        assert real.shape == features.shape[:2]


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="must be at most fft"):
        LogMel(window=600, fft=512)
    with pytest.raises(InputError, match="must be at most bins, 80"):
        LogMel(cepstra=81)
    with pytest.raises(InputError, match="at most at half the sample rate"):
        LogMel(sample_rate=8000, high=8000.0)


def test_specaugment_hides_stretches_within_each_row():
    augment = SpecAugment(time_masks=1, time_share=0.2, frequency_masks=1, frequency_width=6)
    lengths = np.array([50, 100] * 50)
    mask = np.arange(100) < lengths[:, None]
    features = jnp.where(mask[..., None], 1.0, 0.0) * jnp.ones(20)
    made = np.asarray(jax.jit(augment)(features, mask, jax.random.key(0)))
    again = np.asarray(augment(features, mask, jax.random.key(0)))
    np.testing.assert_array_equal(made, again)
    hidden = (made == 0).all(2) & mask  # (b, t)
    bands = np.array([(row[:n] == 0).all(0).sum() for row, n in zip(made, lengths, strict=True)])
    assert hidden.sum(1).max() <= 20 and (hidden[lengths == 50].sum(1) <= 10).all()
    assert bands.max() == 6 and 2 < bands.mean() < 4
    share = hidden.sum(1) / lengths
    assert 0.07 < share.mean() < 0.13
    assert len({tuple(row) for row in hidden}) > 60  # rows differ
    runs = (np.diff(hidden.astype(int), axis=1) == 1).sum(1) + hidden[:, 0]
    assert runs.max() == 1
