"""Features that torchaudio and the feature extractors of transformers make of the recordings of ``recordings()``.

torchaudio's transforms are written in Python: its compiled extension is not needed.
"""

from typing import Any

import numpy as np

from tests.parity.golden import Golden


def recordings() -> list[np.ndarray]:
    """Two recordings of different lengths, 16 kHz: gliding tones in noise."""
    rng = np.random.default_rng(7)
    made = []
    for size in (2400, 1777):
        time = np.arange(size) / 16_000
        tone = 0.3 * np.sin(2 * np.pi * (300 + 9000 * time) * time) * np.exp(-6 * time)
        made.append((tone + 0.01 * rng.standard_normal(size)).astype(np.float32))
    return made


TORCHAUDIO: dict[str, dict[str, Any]] = {
    "htk": dict(n_mels=40),
    "slaney": dict(n_fft=512, win_length=320, hop_length=128, n_mels=64, mel_scale="slaney", norm="slaney", f_min=50.0),
    "magnitude": dict(n_fft=256, n_mels=24, power=1.0, f_max=7000.0),
    "inside": dict(n_mels=40, center=False),
}
"""Arguments of MelSpectrogram by case."""


def spectral() -> Golden:
    """Each case of each recording, by ``case/number``."""
    import torch
    import torchaudio.transforms as made
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
    from transformers.models.audio_spectrogram_transformer import (
        feature_extraction_audio_spectrogram_transformer as ast,
    )

    outputs: dict[str, np.ndarray] = {}
    ast.is_speech_available = lambda: False  # its own code in NumPy, and not torchaudio's
    for number, samples in enumerate(recordings()):
        wave = torch.tensor(samples)
        for name, options in TORCHAUDIO.items():
            outputs[f"{name}/{number}"] = made.MelSpectrogram(16_000, **options)(wave).log().T.numpy()
        cepstra = made.MFCC(16_000, n_mfcc=13, melkwargs=dict(n_mels=40))(wave).T.numpy()
        outputs[f"mfcc/{number}"] = cepstra
        extract = WhisperFeatureExtractor()
        whisper = extract(samples, sampling_rate=16_000, padding=False, return_tensors="np")["input_features"][0]
        outputs[f"whisper/{number}"] = whisper.T
        wave2 = Wav2Vec2FeatureExtractor()(samples[:800], sampling_rate=16_000, return_tensors="np")["input_values"][0]
        outputs[f"wav2vec2/{number}"] = wave2
        outputs[f"kaldi/{number}"] = SeamlessM4TFeatureExtractor()._extract_fbank_features(samples)
        outputs[f"ast/{number}"] = ast.ASTFeatureExtractor(num_mel_bins=40)._extract_fbank_features(samples, 16)
    return Golden(config={}, shapes={}, inputs={}, outputs={k: v.astype(np.float32) for k, v in outputs.items()})


CASES = {"spectral": spectral}
