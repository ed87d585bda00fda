"""Records of one's own for each recipe that has no data: few, small and made up, as the command line is given them."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from tests import boxes, masks

FLAGS = {
    "multimodal.match": "--data captions.csv",
    "multimodal.match_sounds": "--data sounds/manifest.jsonl",
    "recommendation.click": "--data events.csv --task.label clicked",
    "recommendation.multitask": "--data events.csv --task.labels clicked bought",
    "recommendation.retrieve": "--data events.csv --task.user user --task.item item",
    "recommendation.sequence": "--data events.csv --task.user user --task.item item --task.time time",
    "recommendation.sequence_tags": "--data events.csv --task.user user --task.item item --task.time time "
    "--task.tags.data.path items.csv",
    "speech.classify": "--data sounds/manifest.jsonl",
    "speech.pretrain": "--data sounds",
    "speech.pretrain_contrast": "--data sounds",
    "speech.recognize": "--data sounds/manifest.jsonl",
    "speech.synthesize": "--data sounds/manifest.jsonl",
    "speech.vocode": "--data sounds/manifest.jsonl",
    "speech.vocode_hifigan": "--data sounds/manifest.jsonl",
    "table.finetune": "--data texts.csv --target stars",
    "table.predict": "--data texts.csv --target stars",
    "text.adapt": "--data texts.csv",
    "text.classify": "--data texts.csv",
    "text.embed": "--data texts.csv",
    "text.encoder": "--data texts.csv",
    "text.finetune": "--data texts.csv",
    "text.label": "--data texts.csv --target tags",
    "text.language_model": "--data running.txt",
    "text.pair": "--data texts.csv --target label",
    "text.pretrain": "--data texts.csv",
    "text.regress": "--data texts.csv --target stars",
    "text.tag": "--data tagged.conll",
    "text.translate": "--data pairs.tsv",
    "vision.classify": "--data photos",
    "vision.detect": "--data boxes",
    "vision.embed": "--data photos",
    "vision.finetune": "--data photos",
    "vision.generate": "--data photos",
    "vision.generate_text": "--data captions.csv",
    "vision.label": "--data captions.csv --task.image image --target tags",
    "vision.pretrain": "--data photos",
    "vision.pretrain_masked": "--data photos",
    "vision.regress": "--data captions.csv --task.image image --target age",
    "vision.segment": "--data scenes",
}
"""Recipe -> flags with the records that `write` makes, named from its folder."""
CLASSES = ("red", "green", "blue")
WORDS = (
    "the",
    "of",
    "a",
    "film",
    "plot",
    "music",
    "was",
    "is",
    "never",
    "always",
    "very",
    "dull",
    "bright",
    "slow",
    "its",
)
RATE = 16_000


def write(folder: Path) -> None:
    """Writes what ``FLAGS`` name: some 400 texts and events, 60 pictures, 48 recordings of a second."""
    rng = np.random.default_rng(0)
    said = lambda least=6, most=30: " ".join(rng.choice(WORDS, rng.integers(least, most)))
    _texts(folder, rng, said)
    _events(folder, rng)
    _pictures(folder, rng, said)
    _sounds(folder / "sounds", rng)
    boxes.write_coco(folder / "boxes", boxes.drawn(40))
    masks.write_folders(folder / "scenes", masks.drawn(40))


def _texts(folder: Path, rng: np.random.Generator, said: Any) -> None:
    count = 400
    labels = ("bad", "good")
    rows = (
        {
            "text": said(),
            "other": said(),
            "label": labels[i % 2],
            "stars": f"{rng.uniform(1, 5):.2f}",
            "tags": "|".join(sorted({*rng.choice(CLASSES, 2)})),
        }
        for i in range(count)
    )
    _table(folder / "texts.csv", rows)
    _table(folder / "pairs.tsv", ({"source": said(), "target": said()} for _ in range(count)), "\t")
    (folder / "running.txt").write_text("\n".join(said(30, 60) for _ in range(3000)))
    tagged = lambda: "\n".join(
        f"{word} {tag}" for word, tag in zip(rng.choice(WORDS, 8), 4 * ["O", "B-X"], strict=True)
    )
    (folder / "tagged.conll").write_text("\n\n".join(tagged() for _ in range(count)) + "\n")


def _events(folder: Path, rng: np.random.Generator) -> None:
    items = 40
    rows = (
        {
            "user": f"u{user}",
            "item": f"i{rng.integers(items)}",
            "time": 1000 * user + place,
            "price": f"{rng.uniform(1, 9):.2f}",
            "clicked": rng.integers(2),
            "bought": rng.integers(2),
        }
        for user in range(80)
        for place in range(12)
    )
    _table(folder / "events.csv", rows)
    _table(folder / "items.csv", ({"item": f"i{item}", "tags": CLASSES[item % 3]} for item in range(items)))


def _pictures(folder: Path, rng: np.random.Generator, said: Any) -> None:
    rows = []
    for place, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
            pixels[..., place] += 120
            file = f"photos/{name}/{i}.png"
            Image.fromarray(pixels).save(folder / file)
            about = {"image": file, "age": f"{rng.uniform(1, 90):.1f}", "tags": f"{name}|{CLASSES[i % 3]}"}
            rows.append({**about, "caption": said(4, 9)})
    _table(folder / "captions.csv", rows)


def _sounds(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    lines = []
    for i in range(48):
        soundfile.write(folder / f"{i}.wav", 0.3 * rng.standard_normal(rng.integers(RATE, 2 * RATE)), RATE)
        lines.append({"audio": f"{i}.wav", "text": " ".join(rng.choice(WORDS, 3)), "label": CLASSES[i % 3]})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def _table(path: Path, rows: Iterable[Mapping[str, Any]], delimiter: str = ",") -> None:
    known: Sequence[Mapping[str, Any]] = list(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(known[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(known)
