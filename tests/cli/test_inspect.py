"""suite data inspect: balance, ranges, lengths and rates, and the recipe that fits, with its command."""

import json
import re
import shlex
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from suite.cli.app import VERBS
from suite.cli.flags import parse
from suite.contracts.data import Data
from suite.data.sources.datasets import Memory, from_path
from suite.data.suggestion import suggested
from suite.experiment import recipes

RNG = np.random.default_rng(0)


def table(path, header, row, count=60):
    path.write_text("\n".join([header, *(row(i) for i in range(count))]) + "\n")
    return path


def wav(path, seconds=0.5, rate=8000):
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(seconds * rate)) / 7), rate)


def made(kind, folder):
    """Own data of a kind, and the recipe with its flags that it should be trained by."""
    if kind == "texts":
        row = lambda i: f"a rather fine film number {i},{['good', 'bad', 'so so'][i % 3]},{i % 5}"
        path = table(folder / "my reviews.csv", "the review,verdict,stars", row)
        return path, "text.classify", ["--task.text", "the review", "--task.label", "verdict"]
    if kind == "pairs":
        return (
            table(folder / "p.tsv", "source\ttarget", lambda i: f"one big house {i} here\tein grosses haus {i} hier"),
            "text.translate",
            [],
        )
    if kind == "running":
        return (
            table(folder / "t.csv", "story", lambda i: f"once upon a time there were {i}"),
            "text.language_model",
            ["--task.text", "story"],
        )
    if kind == "lines":
        path = folder / "my.txt"
        path.write_text("once upon a time there was a text\n" * 50)
        return path, "text.language_model", []
    if kind == "clicks":
        row = lambda i: f"{RNG.normal(3, 1):.3f},{'abc'[i % 3]},{i % 2}"
        return table(folder / "c.csv", "price,shop,clicked", row), "recommendation.click", ["--task.label", "clicked"]
    if kind in ("tagged", "spans", "labels"):
        name = {"tagged": "x.conll", "spans": "x.jsonl", "labels": "x.jsonl"}[kind]
        told = {"spans": {"entities": [[0, 3, "PER"]]}, "labels": {"genres": ["a", "b"]}}.get(kind, {})
        rows = [json.dumps({"note": f"Ada met person number {i} in a city", **told}) for i in range(60)]
        lines = [f"Ada B-PER\nmet O\nnumber{i} O\n" for i in range(60)]
        (folder / name).write_text("\n".join(lines if kind == "tagged" else rows))
        flags = ["--task.text", "note", "--task.target", *told]
        return folder / name, "text.label" if kind == "labels" else "text.tag", flags if told else []
    if kind == "compared":
        row = lambda i: f"there is one house {i},there are {i} houses at all,{['no', 'yes'][i % 2]}"
        flags = ["--task.text", "premise", "--task.other", "hypothesis", "--task.target", "label"]
        return table(folder / "p.csv", "premise,hypothesis,label", row), "text.pair", flags
    if kind == "measured":
        row = lambda i: f"a rather fine film number {i},{i / 7:.3f}"
        flags = ["--task.text", "review", "--task.target", "rating"]
        return table(folder / "m.csv", "review,rating", row), "text.regress", flags
    if kind == "images":
        for i in range(12):
            (folder / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            pixels = RNG.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / "ab"[i % 2] / f"{i}.png")
        return folder / "photos", "vision.classify", []
    if kind in ("captions", "captions.txt"):
        for i in range(30):
            Image.fromarray(RNG.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{i}.jpg")
        path = folder / ("captions.txt" if kind == "captions.txt" else "captions.csv")
        return table(path, "image,caption", lambda i: f"{i // 2}.jpg,a dog number {i} in the snow"), MATCH, []
    if kind in ("named", "classes"):
        for i in range(12):
            wav(folder / f"{i}.wav")
        told = "txt" if kind == "named" else "mood"
        rows = [
            json.dumps({"file": f"{i}.wav", told: f"number {i}" if told == "txt" else "ab"[i % 2]}) for i in range(12)
        ]
        (folder / "list.jsonl").write_text("\n".join(rows))
        recipe, field = ("speech.recognize", "text") if kind == "named" else ("speech.classify", "label")
        return folder / "list.jsonl", recipe, ["--task.audio", "file", f"--task.{field}", told]
    if kind == "sounds":
        for i in range(12):
            wav(folder / "sounds" / "ab"[i % 2] / f"{i}.wav")
        return folder / "sounds", "speech.classify", []
    for i in range(12):
        wav(folder / f"{i}.wav")
    lines = [json.dumps({"audio": f"{i}.wav", "text": f"number {i}"}) for i in range(12)]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "manifest.jsonl", "speech.recognize", []


MATCH = "multimodal.match"
ALT = ("--task.text", "alt")
KINDS = ("texts", "pairs", "running", "lines", "clicks", "images", "sounds", "manifest")
KINDS += ("tagged", "spans", "labels", "compared", "measured")
KINDS += ("captions", "captions.txt", "named", "classes")


@pytest.mark.parametrize("kind", KINDS)
def test_the_recipe_that_fits_is_recommended_with_its_command(kind, command, tmp_path):
    path, recipe, flags = made(kind, tmp_path)
    *_, why, line = command("data", "inspect", "--data", path).splitlines()
    assert why.startswith(f"recipe: {recipe}, for ")
    assert line.strip() == shlex.join(["suite", "train", recipe, "--data", str(path), *flags])
    experiment = parse(VERBS["train"].flags, shlex.split(line)[2:]).resolved()  # its fields exist
    columns = experiment.task.source("train").schema
    assert columns and all(flag in columns for flag in flags[1::2])


def test_a_recipe_that_refuses_the_records_says_why_in_place_of_a_command(command, tmp_path):
    path = table(tmp_path / "captions.csv", "image,caption", lambda i: f"{i // 2}.jpg,a dog number {i} in the snow")
    printed = command("data", "inspect", "--data", path)
    assert "\nrecipe: multimodal.match for images named in image, with texts of them in caption, but it does" in printed
    assert "no such image file: 0.jpg" in printed and "suite train" not in printed


@pytest.mark.parametrize(
    "columns, recipe, flags",
    [
        ({"audio": "audio", "speaker": list("ab") * 6}, "speech.classify", ("--task.label", "speaker")),
        ({"audio": "audio"}, "speech.pretrain", ()),
        ({"image": "image"}, "vision.pretrain", ()),
        ({"image": "image", "price": [i / 7 for i in range(12)]}, "vision.regress", ("--task.target", "price")),
        ({"photo": "image", "alt": [f"a dog {i} runs" for i in range(12)]}, MATCH, ("--task.image", "photo", *ALT)),
    ],
)
def test_files_are_recommended_by_what_stands_beside_them(columns, recipe, flags):
    values = {name: ["x"] * 12 if isinstance(held, str) else held for name, held in columns.items()}
    kinds = {name: held if isinstance(held, str) else "text" for name, held in columns.items()}
    source = Memory(values, {name: "float" if name == "price" else kind for name, kind in kinds.items()})
    advice = suggested(Opened(source), recipes.names())
    assert (advice.recipe, advice.flags) == (recipe, flags)


@dataclass(frozen=True)
class Opened(Data):
    """Records as they are."""

    records: Memory

    def open(self, split):
        return self.records


def test_lines_that_are_no_table_stay_lines(tmp_path):
    for name, text in {
        "poem.txt": "Hello, world\nOh, no\nAh, yes\n",
        "names.txt": "a.jpg,b.jpg\nc.jpg,d.jpg\ne.jpg,f.jpg\n",
        "said.txt": "image,caption\na.jpg,one\nand then, he said, it rained\n",
        "none.txt": "\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert type(from_path(str(tmp_path / name))).__name__ == "Lines"


def test_what_is_left_to_the_user_is_asked(command, tmp_path):
    """Neither the first column at random nor a command that fails."""
    path = table(tmp_path / "t.csv", "a,b,c", lambda i: f"{RNG.normal():.3f},{i % 2},{'xy'[i // 7 % 2]}")
    *_, why, first, second = command("data", "inspect", "--data", path).splitlines()
    assert why == "recipe: recommendation.click, for yes or no; which column is the label?"
    for line, label in ((first, "b"), (second, "c")):
        assert shlex.split(line)[-2:] == ["--task.label", label]
    path = table(tmp_path / "n.csv", "a,b", lambda i: f"{RNG.normal():.4f},{RNG.normal():.4f}")
    assert (
        command("data", "inspect", "--data", path)
        .splitlines()[-1]
        .startswith("recipe: none fits: no column looks like")
    )


def test_the_flags_of_the_task_are_taken(command, refused, tmp_path):
    path, _, _ = made("texts", tmp_path)
    printed = command("data", "inspect", "--data", path, "--task.label", "stars")
    assert re.search(r"  stars: \d \d+ \(2\d\.\d%\), ", printed)
    expected = [
        "suite",
        "train",
        "text.classify",
        "--data",
        str(path),
        "--task.text",
        "the review",
        "--task.label",
        "stars",
    ]
    assert shlex.split(printed.splitlines()[-1]) == expected
    error = refused("data", "inspect", "--data", path, "--taks.label", "stars")
    assert error.startswith("suite data inspect: flag --taks.label: is not a field of text.classify.")
    assert error.endswith(f"  try:   suite data inspect --data {shlex.quote(str(path))} --task.label stars\n")
    assert 'column "nothing" is not in' in refused(
        "data", "inspect", "text.classify", "--data", path, "--task.text", "nothing"
    )


def test_ranges_of_numbers_and_lengths_and_rates_of_recordings(command, tmp_path):
    path = table(tmp_path / "n.csv", "price,label", lambda i: f"{'' if i == 3 else i / 2},{i % 2}")
    printed = command("data", "inspect", "--data", path)
    assert "  price: " in printed and " distinct" in printed and "1 missing" in printed
    for i in range(10):
        wav(tmp_path / "s" / "ab"[i % 2] / f"{i}.wav", 0.25 * (1 + i % 2), 8000 if i < 9 else 16000)
    printed = command("data", "inspect", "--data", tmp_path / "s")
    assert "audio, seconds: min 0.25, median " in printed and "max 0.5; " in printed
    assert "audio, sample rates: 8,000 Hz (" in printed


@pytest.mark.parametrize(
    ("columns", "recipe", "labels"),
    [
        ({"x": ["some longer words here"] * 30, "Label": ["a", "b"] * 15}, "text.classify", ()),
        (
            {"x": ["some longer words here"] * 30, "p": ["a", "b"] * 15, "q": ["c", "d"] * 15},
            "text.classify",
            ("p", "q"),
        ),
        ({"x": list(range(30)), "LABEL": [0, 1] * 15, "other": [1, 0] * 15}, "recommendation.click", ()),
        ({"x": list(range(30))}, "", ()),
        ({"photo": ["a.JPG", "b.png"] * 15, "label": [0, 1] * 15}, "vision.classify", ()),
        ({"photo": ["a.JPG", "b.png"] * 15, "price": np.arange(30) / 7}, "vision.regress", ()),
        ({"path": ["no such.wav"] * 30, "label": [0, 1] * 15}, "speech.classify", ()),
        ({"banner": ["a.png"] * 30, "x": [1] * 30, "z": [2] * 30, "clicked": [0, 1] * 15}, "recommendation.click", ()),
    ],
)
def test_columns_are_judged_by_what_they_hold(columns, recipe, labels):
    data = type("Own", (), {"open": lambda self, split: Memory(columns)})()
    advice = suggested(data, recipes.names())
    assert (advice.recipe, advice.labels) == (recipe, labels)


def test_what_cannot_be_read_is_an_error_and_no_report(refused, tmp_path):
    (tmp_path / "latin.csv").write_bytes("text,label\nf\xfcr,a\n".encode("latin-1"))
    printed = refused("data", "inspect", "--data", tmp_path / "latin.csv")
    assert printed.count("not UTF-8") == 1 and "try:   iconv" in printed
    wav(tmp_path / "long.wav")
    (tmp_path / "m.csv").write_text("audio,label\nlong.wav,a\n")
    (tmp_path / "latin.csv").unlink()
    printed = refused("data", "inspect", "--data", tmp_path)  # the list beside the recordings is named
    assert printed.endswith(f"try:   suite data inspect --data {tmp_path / 'm.csv'}\n")


def test_a_path_that_is_nearly_right(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "my reviews.csv", "text,label", lambda i: f"x,{i % 2}")
    assert refused("data", "inspect", "--data", "my review.csv").endswith(
        "try:   suite data inspect --data 'my reviews.csv'\n"
    )
    assert "try:" not in refused("data", "inspect", "--data", "zzz.csv")


def test_own_data_opens_as_its_kind(tmp_path):
    path, _, _ = made("images", tmp_path)
    assert type(from_path(str(path))).__name__ == "Folder"
