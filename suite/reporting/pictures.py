"""Images, spectrograms and recordings as data URIs, so that a page needs no file beside it."""

import base64
import io
from typing import Any

import numpy as np

from suite.data.recordings import wav
from suite.evaluation.artifacts import Image, Sound
from suite.reporting.blocks import Picture

SMALL = 64
"""Pixels up to which an image is drawn larger than it is."""
LARGEST = 360
"""Pixels that larger images are scaled down to."""
SECONDS = 15.0
"""Longest recording that a page carries; of longer ones it shows the spectrogram."""
FRAMES = 480
"""Most columns of a spectrogram."""
WIDE, STRIP = 960, 12
"""Pixels of a spectrogram with marks, at least, and of the strip of their names."""
DECIBELS = 70.0
"""Range of a spectrogram below its loudest point."""
_COLOURS = np.array([(12, 14, 36), (72, 30, 110), (160, 50, 110), (228, 100, 74), (252, 180, 92), (252, 250, 200)])


def image(shown: Image, alt: str) -> Picture:
    """Small images as PNG, pixel by pixel; larger ones scaled down, as JPEG where nothing is transparent."""
    from PIL import Image as Pillow

    pixels = shown.pixels
    image = Pillow.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    small = max(pixels.shape[:2]) <= SMALL
    image.thumbnail((LARGEST, LARGEST))
    if small or pixels.shape[2] == 4:
        return Picture(_png(image), alt, "small" if small else "photo")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return Picture(uri("image/jpeg", file.getvalue()), alt)


def spectrogram(sound: Sound, alt: str) -> Picture:
    """Time to the right, frequency (or feature) upwards, louder is brighter; marks are lines, named above them."""
    from PIL import Image as Pillow

    levels = _levels(sound)
    places = np.linspace(0, len(_COLOURS) - 1, 256)
    palette = [np.interp(places, np.arange(len(_COLOURS)), channel) for channel in _COLOURS.T]
    image = Pillow.fromarray((levels.T[::-1] * 255).astype(np.uint8), "L")
    image.putpalette(np.stack(palette, -1).astype(np.uint8).tobytes())
    return Picture(_png(_marked(image, sound) if sound.marks else image), alt, "sound")


def _marked(image: Any, sound: Sound) -> Any:
    """The spectrogram with a line where each mark stands, and a strip above it with the names that have room."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    wide = max(WIDE // image.width, 1)
    image = image.resize((image.width * wide, image.height), Pillow.Resampling.NEAREST)
    marked = Pillow.new("P", (image.width, image.height + STRIP))
    marked.putpalette(image.getpalette())
    marked.paste(image, (0, STRIP))
    draw, seconds = ImageDraw.Draw(marked), len(sound.values) / sound.rate
    places = [round(start / seconds * image.width) for start, _ in sound.marks]
    for place, end, (_, name) in zip(places, [*places[1:], image.width], sound.marks, strict=True):
        draw.line([(place, 0), (place, marked.height)], fill=255)
        if name.isprintable() and name.isascii() and draw.textlength(name) < end - place:
            draw.text(((place + end - draw.textlength(name)) / 2 + 1, 0), name, fill=255)
    return marked


def _levels(sound: Sound) -> np.ndarray:
    """(t, f) in 0..1."""
    if sound.values.ndim == 2:
        low, high = sound.values.min(0), sound.values.max(0)
        return (sound.values - low) / np.maximum(high - low, 1e-9)
    window = max(int(0.025 * sound.rate), 16)
    hop = max(int(0.005 * sound.rate), len(sound.values) // FRAMES, 1)
    samples = np.pad(sound.values, (0, window))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop][:FRAMES]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(window), max(256, window)))) + 1e-12
    decibels = 10 * np.log10(power)
    return np.clip((decibels - decibels.max() + DECIBELS) / DECIBELS, 0, 1)


def audible(sound: Sound) -> str:
    """The recording as a WAV of 16 bits; empty where only features are there, or it is too long to carry."""
    if sound.values.ndim == 2 or len(sound.values) > SECONDS * sound.rate:
        return ""
    return uri("audio/wav", wav(sound.values, sound.rate))


def _png(image: "object") -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)  # type: ignore[attr-defined]
    return uri("image/png", file.getvalue())


def uri(kind: str, data: bytes) -> str:
    """The content as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
