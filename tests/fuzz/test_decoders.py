"""Pictures, recordings and tokenizers with bytes changed: each is read or refused in words, and nothing dies of one.

All are read in a decoder process, so that a plain file, which is usually read where it is asked for, is found where it
ends that process, is slow, or takes memory that its header doesn't state.
"""

import io
import json
import os
import resource
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from suite.contracts import kinds
from suite.contracts.plain_files import is_plain_image, is_plain_recording
from suite.contracts.signature import Input
from suite.contracts.values import Unfit
from suite.data import recordings
from suite.data.preprocessing import image, tokenizer_engines
from suite.data.preprocessing.tokenizers import Published
from suite.errors import InputError
from suite.runtime import decoders
from tests import hostile
from tests.fuzz.conftest import Budget

SLOW = 4.0
"""Seconds of processor time that no file of some kilobytes may take where it is decoded without a clock."""
GROWN = 600 << 20
"""Bytes that decoding such a file may take."""


def images() -> list[bytes]:
    size = (40, 30)
    frames = [Image.fromarray(np.full((*size, 3), shade, np.uint8)) for shade in (0, 120, 250)]
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010E: "a picture", 0x8769: {0x9003: "2026:11:29 10:00:00"}})
    files = [
        *(hostile.image(kind, size) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")),
        *(hostile.image("JPEG", size, **how) for how in ({"progressive": True}, {"exif": exif}, {"comment": b"so"})),
        *(hostile.image("WEBP", size, **how) for how in ({"lossless": True}, {"exif": exif})),
        hostile.image("PNG", size, exif=exif),
        hostile.scans(20, 64),
        hostile.notes(20, 400),
    ]
    for mode, kind in (("P", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("1", "BMP"), ("CMYK", "JPEG")):
        file = io.BytesIO()
        (Image.new(mode, size) if mode == "I;16" else frames[1].convert(mode)).save(file, kind)
        files.append(file.getvalue())
    for kind in ("GIF", "WEBP", "PNG"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        files.append(file.getvalue())
    return files


def sounds() -> list[bytes]:
    wave, files = 0.3 * np.sin(np.arange(3000) / 4), []
    stereo = np.stack([wave, wave / 2], 1)
    shapes = [
        ("WAV", name) for name in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "GSM610", "IMA_ADPCM")
    ]
    shapes += [("WAVEX", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
    for kind, subtype in [*shapes, ("MP3", "MPEG_LAYER_III"), ("RF64", "PCM_16"), ("AIFF", "PCM_16")]:
        for samples in (wave,) if subtype in ("GSM610",) else (wave, stereo):
            file = io.BytesIO()
            soundfile.write(file, samples, 8000, format=kind, subtype=subtype)
            files.append(file.getvalue())
    mp3 = files[-3]
    return [*files, b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + mp3, hostile.wav_chunks(30)]


NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """A few changes, most near the head: bytes, numbers, pieces doubled, left out, or taken from another file."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if not changed:
            break
        place = int(rng.integers(min(len(changed), 200) if rng.random() < 0.6 else len(changed)))
        length = int(rng.integers(1, 1 + min(64, len(changed))))
        match int(rng.integers(7)):
            case 0:
                changed[place] = int(rng.integers(256))
            case 1:
                changed[place] ^= 1 << int(rng.integers(8))
            case 2:
                form = ("<", ">")[int(rng.integers(2))] + ("H", "I")[int(rng.integers(2))]
                number = NUMBERS[int(rng.integers(len(NUMBERS)))] & ((1 << 8 * struct.calcsize(form)) - 1)
                changed[place : place + struct.calcsize(form)] = struct.pack(form, number)
            case 3:
                del changed[place : place + length]
            case 4:
                changed[place:place] = changed[place : place + length] * int(rng.integers(1, 40))
            case 5:
                other = others[int(rng.integers(len(others)))]
                start = int(rng.integers(len(other)))
                changed[place : place + length] = other[start : start + length]
            case 6:
                del changed[place:]
    return bytes(changed)


def decode_both(kind: str, data: bytes) -> tuple[str, float, int]:
    """What comes of a file, as a request and as a record of training, of both the same; the processor time and the
    memory that it took."""
    begun, most = time.process_time(), _peak()
    entry, limits = Input(name="file", kind=kind), {"pixels": 1e6, "seconds": 60.0}
    checked = ""
    try:
        kinds.checked(entry, data, limits)
    except Unfit as error:
        checked = error.code
    folder = tempfile.gettempdir()
    path = Path(folder) / f"fuzz-{os.getpid()}.{kind}"
    path.write_bytes(data)
    try:
        faults = image.examine(data)[0] if kind == "image" else recordings.examine(str(path), 8000, 80, 60.0)
        decoded = ""
        try:
            if kind == "image":
                assert image.decode(data, (8, 8), 3).shape == (8, 8, 3)
            else:
                assert np.isfinite(recordings.decode(data, 8000, 60.0)).all()
        except InputError as error:
            decoded = error.problem
        if kind == "image":
            assert bool(faults) == bool(decoded), (faults, decoded)
        assert not checked or faults or checked in ("too_many_pixels", "recording_too_long"), (checked, faults)
    finally:
        path.unlink()
    return checked or decoded, time.process_time() - begun, _peak() - most


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["image", "audio"])
def test_pictures_and_recordings(kind: str, budget: Budget) -> None:
    seeds, is_plain = (images(), is_plain_image) if kind == "image" else (sounds(), is_plain_recording)
    outcomes: dict[str, int] = {}
    for _, rng in budget:
        data = mutated(seeds[int(rng.integers(len(seeds)))], seeds, rng)
        plain = is_plain(data)
        try:
            outcome, seconds, grown = decoders.call("file", decode_both, kind, data)
        except decoders.Ended as error:
            outcome, seconds, grown = error.problem, 0.0, 0
            if plain or "answers nonsense" in error.problem or "exit code" in error.problem or error.found:
                budget.failed(f"a {'plain ' * plain}file: {error}", data)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if plain and (seconds > SLOW or grown > GROWN):
            budget.failed(f"a plain file took {seconds:.1f} s and {grown >> 20} MiB", data)
    print(dict(sorted(outcomes.items(), key=lambda pair: -pair[1])))
    assert budget.done < 500 or ("" in outcomes and len(outcomes) > 2)  # some are read, others refused in several ways


def tokenizers() -> list[str]:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = {"[UNK]": 0, "a": 1, "##a": 2, "b": 3, "film": 4, "Ġ": 5, "aa": 6, "<s>": 7, "</s>": 8}
    pieces = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    pieces.normalizer, pieces.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 7), ("</s>", 8)]
    )
    pairs = Tokenizer(models.BPE(words, [("a", "a")]))
    pairs.pre_tokenizer, pairs.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("a", -2.0), ("film", -3.0)], 0, False))
    unigram.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    plain = [json.dumps(about) for about in (hostile.tokenizer(), hostile.ENDLESS, hostile.PANICKING, hostile.ABORTING)]
    return [pieces.to_str(), pairs.to_str(), unigram.to_str(), *plain]


def test_tokenizers(budget: Budget, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Refused in words, or asked; a text that its client may send ends nothing."""
    monkeypatch.setattr(tokenizer_engines, "PROBING", 2.0)
    seeds = [text.encode() for text in tokenizers()]
    texts = ["a film aa", "", "漢 \u0300 🙂", "a" * 200 + "b", " \n 12"]
    path = tmp_path / "kept.json"
    for number, rng in budget:
        data = mutated(seeds[int(rng.integers(len(seeds)))], seeds, rng)
        path.write_bytes(data)
        os.utime(path, ns=(number, number))
        kept = Published(file=str(path))
        try:
            with decoders.within(time.monotonic() + 60, 2.0):
                kept.sizes()
                kept.decode(kept.encode(texts, 32).values[None])
                kept.located(texts, 32)
                kept.pairs(texts, texts, 32)
        except InputError:
            pass
        except BaseException as error:
            budget.failed(f"{type(error).__name__}: {error}", data)
