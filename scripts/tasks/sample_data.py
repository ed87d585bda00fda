"""Small made-up data for every task, under the file names that the documentation uses.

command:  python scripts/tasks/sample_data.py FOLDER        (default: the current folder)

Each data set can be learnt, and none is real: words decide the verdict of a review, shapes the class of a photo,
tones the keyword and the transcript, device and price the click. It shows the formats and lets every command of the
documentation run in seconds.
"""

import csv
import json
import sys
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

RATE = 8000
"""Samples a second."""
NOTES = {"do": 262.0, "re": 330.0, "mi": 415.0, "fa": 523.0}
"""Hertz of each word of the transcripts."""
GOOD = ("moving", "delightful", "brilliant", "charming", "witty", "gripping")
BAD = ("tedious", "dull", "clumsy", "lifeless", "shallow", "annoying")
ENGLISH = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ENGLISH += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
GERMAN = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"]
GERMAN += ["dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"]
TENS = [("twenty", "zwanzig"), ("thirty", "dreißig"), ("forty", "vierzig"), ("fifty", "fünfzig"), ("sixty", "sechzig")]
TENS += [("seventy", "siebzig"), ("eighty", "achtzig"), ("ninety", "neunzig")]
SHAPES = ("circle", "square", "triangle")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    texts = (reviews, films, statements, paraphrases, sentences, pairs, novel)
    for make in (*texts, photos, scenes, drawings, keywords, dictation, clicks, houses):
        print(make(folder))


def reviews(folder: Path, rows: int = 300) -> Path:
    """``reviews.csv`` with the columns review and verdict, and ``new_reviews.csv`` with id and review."""
    rng = np.random.default_rng(0)

    def review(words: tuple[str, ...]) -> str:
        first, second = rng.choice(words, 2, replace=False)
        thing, part = rng.choice(["film", "play", "story", "comedy"]), rng.choice(["cast", "plot", "ending", "music"])
        return f"a {first} {thing} with a {second} {part}"

    labels = rng.permutation(np.arange(rows) % 2)
    table = [[review(GOOD if label else BAD), "good" if label else "bad"] for label in labels]
    _csv(folder / "new_reviews.csv", ["id", "review"], [[i, row[0]] for i, row in enumerate(table[:8])])
    return _csv(folder / "reviews.csv", ["review", "verdict"], table)


def films(folder: Path, rows: int = 120) -> Path:
    """``films.csv`` with the columns plot, stars (a number) and genres (labels, parted by ``|``)."""
    rng = np.random.default_rng(0)
    genres = {"crime": "a detective", "family": "two children", "romance": "young lovers"}
    table = []
    for _ in range(rows):
        chosen = sorted(rng.choice(list(genres), rng.integers(1, 3), replace=False).tolist())
        share = rng.integers(0, 4)
        words = [*rng.choice(GOOD, share, replace=False), *rng.choice(BAD, 3 - share, replace=False)]
        plot = f"{' and '.join(genres[name] for name in chosen)} in a {', '.join(words)} story"
        table.append([plot, round(1 + 4 * share / 3 + rng.uniform(-0.2, 0.2), 2), "|".join(chosen)])
    return _csv(folder / "films.csv", ["plot", "stars", "genres"], table)


def statements(folder: Path, rows: int = 60) -> Path:
    """``statements.csv`` with the columns premise, hypothesis and label (entailment or contradiction)."""
    rng = np.random.default_rng(0)
    table = []
    for i in range(rows):
        said, claimed = i % 2, i // 2 % 2
        label = "entailment" if said == claimed else "contradiction"
        table.append([f"a {rng.choice(GOOD if said else BAD)} film", f"the film is {('bad', 'good')[claimed]}", label])
    return _csv(folder / "statements.csv", ["premise", "hypothesis", "label"], table)


def paraphrases(folder: Path, rows: int = 120) -> Path:
    """``pairs.csv`` with the columns text and other: numbers below 1000, spelt in English and in digits."""
    numbers = np.random.default_rng(0).permutation(1000)[:rows].tolist()
    return _csv(folder / "pairs.csv", ["text", "other"], [[english(number), str(number)] for number in numbers])


def sentences(folder: Path, rows: int = 80) -> Path:
    """``sentences.conll``: a word and its tag a line, people and places in IOB2."""
    rng = np.random.default_rng(0)
    people = [
        "Ada Lovelace",
        "Emmy Noether",
        "Alan Turing",
        "Grace Hopper",
        "Srinivasa Ramanujan",
        "Sofia Kovalevskaya",
    ]
    places, verbs = ["London", "New York", "Rome", "Lima", "Oslo"], ["arrived in", "wrote from", "left", "dreamt of"]
    lines = []
    for _ in range(rows):
        for text, label in (
            (rng.choice(people), "PER"),
            (rng.choice(verbs), ""),
            (rng.choice(places), "LOC"),
            (".", ""),
        ):
            for i, word in enumerate(str(text).split()):
                tag = ("I-" if i else "B-") + label if label else "O"
                lines.append(f"{word} {tag}")
        lines.append("")
    return _written(folder / "sentences.conll", lines)


def pairs(folder: Path, rows: int = 400) -> Path:
    """``pairs.tsv`` with the columns en and de: numbers below 1000, spelt in English and German."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(1000)[:rows].tolist()
    lines = ["en\tde", *(f"{english(number)}\t{german(number)}" for number in numbers)]
    return _written(folder / "pairs.tsv", lines)


def novel(folder: Path, sentences: int = 600) -> Path:
    """``novel.txt``: sentences of a small grammar."""
    rng = np.random.default_rng(0)
    people, verbs = ["the captain", "her sister", "a stranger", "the old man"], ["found", "lost", "followed", "sold"]
    things, times = ["a letter", "the horse", "a silver coin", "the map"], ["at dawn", "in winter", "by the river"]
    lines = [" ".join(str(rng.choice(words)) for words in (people, verbs, things, times)) for _ in range(sentences)]
    return _written(folder / "novel.txt", [f"{line.capitalize()}." for line in lines])


def photos(folder: Path, each: int = 24) -> Path:
    """``photos/CLASS/N.png`` of three shapes; ``new_photos/`` without classes, ``a.png`` and ``b.png``."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        for i in range(each):
            _saved(_picture(shape, rng), folder / "photos" / shape / f"{i:02}.png")
    for name, shape in (("new_photos/1.png", "circle"), ("new_photos/2.png", "square"), ("a.png", "triangle")):
        _saved(_picture(shape, rng), folder / name)
    _saved(_picture("circle", rng), folder / "b.png")
    return folder / "photos"


def scenes(folder: Path, count: int = 60) -> Path:
    """``scenes/images/N.png`` and ``scenes/boxes.json``: one to four shapes on noise, boxes as COCO JSON."""
    rng = np.random.default_rng(0)
    (folder / "scenes" / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        image = Image.fromarray(rng.integers(100, 156, (96, 128, 3), np.uint8))
        for _ in range(int(rng.integers(1, 5))):
            shape, side = int(rng.integers(len(SHAPES))), int(rng.integers(16, 40))
            left, top = int(rng.integers(0, 128 - side)), int(rng.integers(0, 96 - side))
            colour = tuple(rng.integers(0, 256, 3).tolist())
            _draw(SHAPES[shape], image, (left, top, left + side - 1, top + side - 1), colour)
            annotation = {"id": len(annotations), "image_id": number, "category_id": shape, "iscrowd": 0}
            annotations.append({**annotation, "bbox": [left, top, side, side], "area": side * side})
        name = f"{number:03d}.png"
        image.save(folder / "scenes" / "images" / name)
        images.append({"id": number, "file_name": name, "width": 128, "height": 96})
    categories = [{"id": place, "name": name} for place, name in enumerate(SHAPES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return _written(folder / "scenes" / "boxes.json", [json.dumps(content)])


def drawings(folder: Path, rows: int = 60) -> Path:
    """``photos.csv`` with photo (a path), side (pixels) and tags (labels), and the pictures in ``drawings/``."""
    rng = np.random.default_rng(0)
    table = []
    for i in range(rows):
        side, shape = int(rng.integers(12, 40)), SHAPES[i % 3]
        _saved(_picture(shape, rng, side), folder / "drawings" / f"{i:02}.png")
        table.append([f"drawings/{i:02}.png", side, f"{shape}|{'large' if side > 25 else 'small'}"])
    _csv(folder / "new_photos.csv", ["photo"], [row[:1] for row in table[:8]])
    return _csv(folder / "photos.csv", ["photo", "side", "tags"], table)


def keywords(folder: Path, each: int = 16) -> Path:
    """``keywords/WORD/N.wav``: one note for each word."""
    rng = np.random.default_rng(0)
    for word in list(NOTES)[:3]:
        for i in range(each):
            _recording([word], rng, folder / "keywords" / word / f"{i:02}.wav")
    return folder / "keywords"


def dictation(folder: Path, rows: int = 48) -> Path:
    """``manifest.jsonl`` with audio and text a line, its recordings, and ``new.wav``: two or three notes each."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(rows):
        words = rng.choice(list(NOTES), rng.integers(2, 4)).tolist()
        _recording(words, rng, folder / "recordings" / f"{i:02}.wav")
        lines.append(json.dumps({"audio": f"recordings/{i:02}.wav", "text": " ".join(words)}))
    _recording(["do", "mi"], rng, folder / "new.wav")
    return _written(folder / "manifest.jsonl", lines)


def clicks(folder: Path, rows: int = 1500) -> Path:
    """``clicks.parquet`` with user, item, device, price, hour and clicked; ``new_clicks.csv`` without clicked."""
    rng = np.random.default_rng(0)
    device, price = rng.choice(["phone", "tablet", "laptop"], rows), np.round(rng.lognormal(3, 0.6, rows), 2)
    likely = 1 / (1 + np.exp(-(2.0 * (device == "phone") - 0.06 * (price - 20))))
    columns = {
        "user": [f"u{i}" for i in rng.integers(0, 60, rows)],
        "item": [f"i{i}" for i in rng.integers(0, 40, rows)],
        "device": device.tolist(),
        "price": price.tolist(),
        "hour": rng.integers(0, 24, rows).tolist(),
        "clicked": (rng.uniform(size=rows) < likely).astype(int).tolist(),
    }
    path = folder / "clicks.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    names = [name for name in columns if name != "clicked"]
    _csv(folder / "new_clicks.csv", names, [[columns[name][i] for name in names] for i in range(8)])
    return path


def houses(folder: Path, rows: int = 300) -> Path:
    """``houses.csv`` with size, age, city, sold, about and price, and ``new_houses.csv`` without price."""
    rng = np.random.default_rng(0)
    size, age = rng.uniform(0, 1, rows), rng.uniform(0, 1, rows)
    city, garden = rng.integers(0, 3, rows), rng.integers(0, 2, rows)
    price = 3 * size - age + 0.4 * city + 0.5 * garden + rng.normal(0, 0.05, rows)
    names = ["size", "age", "city", "sold", "about", "price"]
    table = [
        [
            round(size[i], 4),
            round(age[i], 4),
            ("Lima", "Oslo", "Rome")[city[i]],
            f"20{20 + i % 4}-{1 + i % 12:02}-{1 + i % 28:02}",
            f"house {i} with {('a balcony', 'a large garden')[garden[i]]}",
            round(price[i], 4),
        ]
        for i in range(rows)
    ]
    _csv(folder / "new_houses.csv", names[:-1], [row[:-1] for row in table[:8]])
    return _csv(folder / "houses.csv", names, table)


def english(number: int) -> str:
    """A number below 1000 in English words."""
    if number >= 100:
        return f"{ENGLISH[number // 100]} hundred" + (f" and {english(number % 100)}" if number % 100 else "")
    if number < 20:
        return ENGLISH[number]
    return TENS[number // 10 - 2][0] + (f"-{ENGLISH[number % 10]}" if number % 10 else "")


def german(number: int) -> str:
    """A number below 1000 in German words."""
    joined = lambda digit: "ein" if digit == 1 else GERMAN[digit]
    if number >= 100:
        return f"{joined(number // 100)}hundert" + (german(number % 100) if number % 100 else "")
    if number < 20:
        return GERMAN[number]
    return (f"{joined(number % 10)}und" if number % 10 else "") + TENS[number // 10 - 2][1]


def _picture(shape: str, rng: np.random.Generator, side: int = 0) -> Image.Image:
    """A shape of random colour and place, 48 x 48; of random size where ``side`` is 0."""
    noise = rng.integers(0, 60, (48, 48, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    size, colour = side or int(rng.integers(18, 30)), tuple(rng.integers(120, 256, 3).tolist())
    x, y = rng.integers(2, 46 - size, 2).tolist()
    _draw(shape, image, (x, y, x + size, y + size), colour)
    return image


def _draw(shape: str, image: Image.Image, box: tuple[int, int, int, int], colour: tuple[int, ...]) -> None:
    """A shape that fills a box, left, top, right and bottom pixel included."""
    draw, (left, top, right, bottom) = ImageDraw.Draw(image), box
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=colour)


def _recording(words: list[str], rng: np.random.Generator, path: Path) -> None:
    """A note of 0.25 s a word, with pauses and noise."""
    time = np.arange(RATE // 4) / RATE
    pause = np.zeros(RATE // 10)
    parts = [pause]
    for word in words:
        pitch = NOTES[word] * rng.uniform(0.97, 1.03)
        parts += [rng.uniform(0.3, 0.6) * np.sin(2 * np.pi * pitch * time) * np.hanning(len(time)), pause]
    samples = np.concatenate(parts)
    samples = samples + 0.01 * rng.standard_normal(len(samples))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def _saved(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _written(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def _csv(path: Path, names: list[str], rows: list[list]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    return path


if __name__ == "__main__":
    main()
