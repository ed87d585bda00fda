"""Files that an adversary sends, made anew: small ones that occupy, fill or end what decodes them."""

import base64
import io
import struct

import numpy as np
from PIL import Image


def image(kind="PNG", size=(12, 10), seed=0, **how):
    """A harmless file of a format of Pillow's."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def scans(count, side=3000):
    """A progressive JPEG of a few bytes a scan, each of which the decoder walks all of its blocks for."""
    file = io.BytesIO()
    Image.new("L", (side, side), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def segments(count):
    """A JPEG whose notes of the camera are cut into many pieces, each of which is added to a copy of those before."""
    data, piece = image("JPEG"), b"Exif\0\0ab"
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", 2 + len(piece)) + piece) * count + data[2:]


def chunks(count):
    """A PNG of many empty chunks."""
    data = image("PNG")
    empty = struct.pack(">I", 0) + b"teSt" + struct.pack(">I", 0)
    return data[:33] + empty * count + data[33:]


def notes(entries, size):
    """A JPEG whose camera's notes have ``entries`` of ``size`` bytes, all in one place."""
    listed = b"".join(struct.pack("<HHII", tag + 1, 1, size - 64, 8) for tag in range(entries))
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", entries) + listed + bytes(4)
    content = b"Exif\0\0" + tiff.ljust(size + 8, b"\0")
    data = image("JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content + data[2:]


def wide_webp():
    """A WebP whose canvas of 16,383 x 16,383 pixels is made before its header is compared with anything."""
    still = image("WEBP", lossless=True)[12:]
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + struct.pack("<I", 16382)[:3] * 2
    return b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(still)) + b"WEBP" + canvas + still


def wav(samples, rate):
    """A WAV of 16 bits that says any rate."""
    data = np.asarray(samples, "<i2").tobytes()
    about = struct.pack("<IHHIIHH", 16, 1, 1, rate, min(2 * rate, 2**32 - 1), 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + about
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )


def wav_chunks(count):
    """A WAV of many empty chunks."""
    data = wav([1000] * 400, 8000)
    return data[:12] + (b"note" + struct.pack("<I", 0)) * count + data[12:]


def tokenizer(**parts):
    """A ``tokenizer.json`` of three words."""
    model = {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1, "b": 2}, "unk_token": "<unk>"}
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {"version": "1.0", "added_tokens": [], **empty, "model": model, **parts}


def splitting(expression):
    """A pre-tokeniser by a regular expression."""
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


ENDLESS = tokenizer(pre_tokenizer=splitting("(a+)+$"))
"""31 letters take it for ever, or for as long as the library lets it try."""
PANICKING = tokenizer(model={"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": ["a a", "aa aa"]})
ABORTING = tokenizer(
    normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff" * 200).decode()}
)
GROWING = tokenizer(
    normalizer={
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40,
    }
)
