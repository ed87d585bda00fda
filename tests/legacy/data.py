"""Data of the stored runs: a few records a domain, the same bytes of content each time they are written.

Numbers are drawn by `random.Random.random`, whose sequence Python promises to keep.
"""

import csv
import json
import math
import random
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

SIDE = 8
"""Pixels along an image."""
RATE = 2000
"""Samples a second of a recording."""
SPLITS = ("train",) * 8 + ("validation",) * 2 + ("test",) * 2
"""Of records in turn."""
PRAISE, BLAME, THINGS = ("good", "fine", "moving"), ("bad", "dull", "slow"), ("film", "plot", "cast", "end")
SAID = ("no", "on", "go", "do")
Item = TypeVar("Item")


def _choice(draw: random.Random, among: Sequence[Item]) -> Item:
    return among[int(draw.random() * len(among))]


def texts(folder: Path) -> None:
    """``texts.csv``: remarks on films, with what they say of them."""
    draw = random.Random(0)
    rows = [("text", "label", "split")]
    for i in range(48):
        said = " and ".join(f"the {_choice(draw, THINGS)} was {_choice(draw, (PRAISE, BLAME)[i % 2])}" for _ in "12")
        rows.append((said, ("good", "bad")[i % 2], SPLITS[i % 12]))
    _table(folder / "texts.csv", rows)


def images(folder: Path) -> None:
    """``images/SPLIT/CLASS/N.png``: lines that lie or stand, in noise."""
    draw = random.Random(1)
    for i in range(48):
        pixels = np.array([int(draw.random() * 90) for _ in range(SIDE * SIDE * 3)], np.uint8).reshape(SIDE, SIDE, 3)
        place = int(draw.random() * SIDE)
        pixels[(place, slice(None)) if i % 2 else (slice(None), place)] += 150
        path = folder / "images" / SPLITS[i % 12] / ("standing", "lying")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def speech(folder: Path) -> None:
    """``speech/manifest.jsonl`` and recordings: a tone for each letter of two words."""
    draw, lines = random.Random(2), []
    (folder / "speech").mkdir(parents=True)
    for i in range(36):
        said = f"{_choice(draw, SAID)} {_choice(draw, SAID)}"
        pitches = [100 + 30 * (ord(letter) % 29) for letter in said]
        length = 120 + int(draw.random() * 60)
        samples = [
            0.4 * math.sin(2 * math.pi * pitch * t / RATE) + 0.1 * draw.random() - 0.05
            for pitch in pitches
            for t in range(length)
        ]
        with wave.open(str(folder / "speech" / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(np.array([round(2000 * sample) for sample in samples], "<i2").tobytes())
        lines.append(json.dumps({"audio": f"{i}.wav", "text": said, "split": SPLITS[i % 12]}))
    (folder / "speech" / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def clicks(folder: Path) -> None:
    """``clicks.csv``: a category, a list, a number, and whether it was clicked."""
    draw, rows = random.Random(3), [("city", "tags", "price", "label", "split")]
    for i in range(96):
        city, tags = _choice(draw, ("Rome", "Oslo", "Bern")), _choice(draw, ("sale|red", "new|red", "red"))
        clicked = int(draw.random() < (0.8 if city == "Rome" else 0.3))
        rows.append((city, tags, f"{draw.random() * 9:.2f}", str(clicked), SPLITS[i % 12]))
    _table(folder / "clicks.csv", rows)


def running(folder: Path) -> None:
    """``running.txt``: sentences of a few words."""
    draw = random.Random(4)
    said = [f"the {_choice(draw, THINGS)} was {_choice(draw, PRAISE + BLAME)}." for _ in range(120)]
    (folder / "running.txt").write_text(" ".join(said) + "\n", encoding="utf-8")


def _table(path: Path, rows: list[Any]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


WRITERS = {each.__name__: each for each in (texts, images, speech, clicks, running)}
"""By the name of the stored runs' folder."""
