"""Messages about a user's mistake: where, what, what was found and what to try; exit code 2."""

import contextlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import suite
from suite.bundles.manifest import NAME
from suite.cli.app import main
from suite.data.sources.datasets import Folder, Table
from suite.errors import InputError, StorageError, first_line
from suite.experiment import recipes, serialization
from suite.experiment.sections import replace
from tests import toy


def reviews(path, header="review,label,stars", rows=120):
    lines = [f"the film number {i} was {('bad', 'good')[i % 2]},{('no', 'yes')[i % 2]},{i % 5}" for i in range(rows)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def pictures(folder, count=30):
    """Two classes of 8x8 images, dark and light."""
    rng = np.random.default_rng(0)
    for place, name in enumerate(("dark", "light")):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 100, (8, 8, 3)) + 150 * place
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, so that messages and run folders have short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory):
    return suite.train(toy.experiment(steps=5), tmp_path_factory.mktemp("bad-input") / "run").folder


TEXT = ("train", "text.encoder", "--smoke", "--task.text", "review")


def test_unknown_verb(refused):
    assert refused("trian", "x") == ('suite trian: verb "trian": is unknown.\n  found: train\n  try:   suite train x\n')


def test_unknown_experiment(refused):
    assert refused("train", "vision.digit_dnn") == (
        'suite train: experiment "vision.digit_dnn": is unknown.\n'
        "  found: vision.digits_dnn, vision.fashion_mnist_dnn, vision.detr\n"
        "  try:   suite train vision.digits_dnn\n"
    )


def test_an_experiment_file_that_is_not_there(refused, here):
    assert refused("train", "mine.py") == 'suite train: experiment "mine.py": is not a file.\n  try:   suite list\n'


def test_an_experiment_file_without_an_experiment(refused, here):
    (here / "mine.py").write_text("x = 1\n")
    assert refused("train", "mine.py") == (
        "suite train: experiment mine.py: has no function experiment().\n"
        "  try:   def experiment() -> suite.experiment.sections.Experiment: ...\n"
    )


def unboxed(text):
    """Words of a message without its frame."""
    return " ".join(re.sub(r"[─│╭╮╰╯+|]|-{3,}", " ", text).split())


def test_unknown_flag(refused, here):
    assert refused("train", "vision.digits_dnn", "--optim.learning_rat", "1e-3") == (
        "suite train: flag --optim.learning_rat: is not a field of vision.digits_dnn.\n"
        "  found: --optim.learning_rate, --optim.end_fraction, --optim.layer_decay\n"
        "  try:   suite train vision.digits_dnn --optim.learning_rate 1e-3\n"
    )


def test_a_flag_without_its_value(refused):
    assert refused("train", "vision.digits_dnn", "--data") == (
        "suite train: flag --data: needs a value.\n  try:   suite train vision.digits_dnn --data reviews.csv\n"
    )


def test_missing_column(refused, here):
    reviews(here / "reviews.csv")
    assert refused(*TEXT, "--data", "reviews.csv", "--task.label", "verdict") == (
        'suite train: field task.label: column "verdict" is not in reviews.csv.\n'
        "  found: review, label, stars\n"
        "  try:   suite train text.encoder --smoke --task.text review --data reviews.csv --task.label label\n"
    )
    assert not list(here.glob("runs/*")), "a refused start leaves no run folder"


def test_missing_column_with_a_near_name(refused, here):
    reviews(here / "reviews.csv")
    printed = refused("train", "text.encoder", "--data", "reviews.csv", "--task.text", "reveiw")
    assert printed.endswith("  try:   suite train text.encoder --data reviews.csv --task.text review\n")


def test_texts_longer_than_the_models_positions(refused, here):
    reviews(here / "reviews.csv")
    assert refused(*TEXT, "--data", "reviews.csv", "--task.max_length", "40", "--model.max_length", "8").endswith(
        "suite train: field model.max_length: input of 32 tokens, but the model has learned positions for "
        "max_length = 8.\n"
        "  try:   suite train text.encoder --smoke --task.text review --data reviews.csv --model.max_length "
        "8 --task.max_length 8\n"
    )
    assert not list(here.glob("runs/*"))


def test_a_missing_column_when_predicting(texts, refused):
    folder, data = texts
    (data / "questions.csv").write_text("comment,stars\nnice,1\n")
    assert refused("predict", folder, "--input", data / "questions.csv") == (
        'suite predict: input "review": is missing.\n  found: comment, stars\n  try:   a column, or key, "review"\n'
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A run on reviews, and the folder with its data."""
    data = tmp_path_factory.mktemp("texts")
    experiment = replace(
        suite.experiment.recipes.load("text.encoder", smoke=True),
        {
            "task.data": Table(path=str(reviews(data / "reviews.csv"))),
            "task.text": "review",
            "task.tokenizer.vocab_size": 60,
            "pipeline.buckets": (32,),
            "train.steps": 3,
        },
    )
    return suite.train(experiment, data / "run").folder, data


def test_a_label_unseen_in_training(refused, here):
    table = here / "more"
    table.mkdir()
    for split in ("train", "test"):
        reviews(table / f"{split}.csv", rows=60)
    (table / "dev.csv").write_text("review,label,stars\nso so,perhaps,3\n")
    assert refused(*TEXT, "--data", "more", "--run-dir", "run", "--task.tokenizer.vocab_size", "60").endswith(
        "suite train: column of labels: 'perhaps' is not a class of the training split\n"
        "  found: known classes: no, yes\n"
        "  try:   correct or remove the record, or train on data that holds this class\n"
    )


def test_an_empty_split(refused, here):
    (here / "reviews.csv").write_text("review,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(2)))
    split = next(s for s in ("validation", "test") if is_empty(s))
    assert split == "validation"
    assert refused(*TEXT, "--data", "reviews.csv") == (
        "suite train: reviews.csv: the validation split is empty\n"
        "  found: 0 records\n"
        "  try:   add rows, or hold out more of them: --task.data.validation 0.3\n"
    )


def is_empty(split):
    try:
        return not len(Table(path="reviews.csv").open(split))
    except InputError:
        return True


def test_a_column_of_empty_texts(refused, here):
    (here / "reviews.csv").write_text("review,label\n" + "".join(f'"{" " * i}",{i % 2}\n' for i in range(50)))
    assert re.fullmatch(
        r"suite train: column review: no record has a text\.\n"
        r"  found: \d+ left out, empty: record \d+, record \d+, record \d+, \.\.\.\n"
        r"  try:   check the data, or name another column\n",
        refused(*TEXT, "--data", "reviews.csv"),
    )


def test_a_path_that_does_not_exist(refused, here):
    reviews(here / "reviews.csv")
    assert refused(*TEXT, "--data", "review.csv") == (
        "suite train: review.csv: no such file or folder\n  found: in .: reviews.csv\n"
        "  try:   suite train text.encoder --smoke --task.text review --data reviews.csv\n"
    )


def test_a_file_that_is_not_utf8(refused, here):
    (here / "latin.csv").write_bytes("review,label\ncafé,1\n".encode("latin1"))
    assert refused(*TEXT, "--data", "latin.csv") == (
        "suite train: latin.csv: this file is not UTF-8 text\n"
        "  found: byte 0xe9 at offset 16\n"
        "  try:   iconv -f latin1 -t utf-8 latin.csv > latin.utf8.csv\n"
    )


def test_lines_to_predict_that_are_not_utf8(toy_run, refused, here):
    (here / "lines.txt").write_bytes(b"good\n\xff\n")
    assert refused("predict", toy_run, "--allow", "tests", "--input", "lines.txt") == (
        "suite predict: lines.txt: this file is not UTF-8 text\n"
        "  found: byte 0xff at offset 5\n"
        "  try:   iconv -f latin1 -t utf-8 lines.txt > lines.utf8.txt\n"
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A run on pictures of which one is corrupt, and the folder they lie in."""
    data = tmp_path_factory.mktemp("images")
    folder = pictures(data / "pictures")
    whole = (folder / "dark" / "0.png").read_bytes()
    (folder / "dark" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "light" / "text.png").write_bytes(b"no image at all")
    experiment = replace(
        recipes.load("vision.classify", smoke=True),
        {"task.data": Folder(path=str(folder), validation=0.2, test=0.2), "task.statistics.size": (16, 16)},
    )
    (folder / "light" / "._0.png").write_bytes(b"of a Mac")
    with (data / "said.txt").open("w") as said, contextlib.redirect_stderr(said):
        return suite.train(experiment, data / "run"), data


def test_training_names_what_it_leaves_out(images):
    _, data = images
    said = (data / "said.txt").read_text()
    assert "train, validation: 1 left out, hidden file: light/._0.png\n" in said
    broken = re.findall("left out, broken image: (.*)", said)
    assert set(", ".join(broken).split(", ")) <= {"dark/cut.png", "light/text.png"} and broken


def test_corrupt_images_are_dropped_and_counted(images):
    run, _ = images
    task = run.experiment.task
    kept = {split: task.source(split) for split in ("train", "validation", "test")}
    assert sum(map(len, kept.values())) == 60
    assert sum(source.dropped.get("broken image", 0) for source in kept.values()) == 2


def test_hidden_files_of_a_folder_to_predict(images, capsys):
    """Of a Mac and of Windows: left out and counted, as in training."""
    run, data = images
    folder = data / "new pictures"
    folder.mkdir()
    (folder / "x.png").write_bytes((data / "pictures" / "dark" / "1.png").read_bytes())
    for name in ("._x.png", "Thumbs.db", ".DS_Store"):
        (folder / name).write_bytes(b"of a system")
    main(["predict", str(run.folder), "--input", str(folder)])
    printed = capsys.readouterr()
    assert [json.loads(line)["input"] for line in printed.out.splitlines()] == [str(folder / "x.png")]
    assert "3 left out, hidden file: ._x.png, .DS_Store, Thumbs.db" in printed.err.replace(
        ".DS_Store, ._x.png", "._x.png, .DS_Store"
    )


def test_a_corrupt_image_to_predict(images, refused, monkeypatch):
    run, data = images
    monkeypatch.chdir(data)
    (data / "asked.png").write_bytes(b"no image at all")
    assert refused("predict", run.folder, "--input", "asked.png") == (
        "suite predict: asked.png: this image cannot be decoded\n"
        "  found: cannot identify image file 'asked.png'\n"
        "  try:   replace or remove the file\n"
    )
    assert refused("predict", run.folder, "--input", "nothing.png").startswith(
        "suite predict: nothing.png: no such file or folder\n"
    )


def test_a_folder_that_is_no_run(refused, here):
    (here / "notes").mkdir()
    (here / "notes" / "todo.txt").write_text("")
    for verb in (("evaluate", "notes"), ("predict", "notes", "--input", "x"), ("train", "--resume", "notes")):
        assert refused(*verb) == (
            f'suite {verb[0]}: run folder "notes": is not one: it has no experiment.json.\n'
            "  found: todo.txt\n"
            "  try:   the folder that suite train printed last\n"
        )


def test_a_run_or_a_bundle_that_is_nearly_right(refused, here):
    for folder, holds in (("my runs/reviews", "experiment.json"), ("bundles/reviews", NAME)):
        (here / folder).mkdir(parents=True)
        (here / folder / holds).write_text("{}")
    (here / "search" / "trials" / "0003").mkdir(parents=True)
    (here / "search" / "trials" / "0003" / "experiment.json").write_text("{}")
    (here / "search" / "verdict.json").write_text('{"chosen": {"folder": "trials/0003"}}')
    assert refused("evaluate", "search").endswith("  try:   suite evaluate search/trials/0003\n")
    for verb in ("evaluate", "report"):
        assert refused(verb, "my runs/review").endswith(f"  try:   suite {verb} 'my runs/reviews'\n")
    assert refused("serve", "bundles/review").endswith("  try:   suite serve bundles/reviews\n")


def test_a_run_of_a_class_that_is_not_allowed(toy_run, refused):
    assert refused("evaluate", toy_run) == (
        'suite evaluate: experiment: names the class "tests.toy.Parity", which is not one of the suite\'s.\n'
        "  found: allowed packages: suite\n"
        "  try:   if you trust it: --allow PACKAGE, or allow=(...) in Python\n"
    )


def test_a_run_without_a_checkpoint(refused, here):
    serialization.dump(toy.experiment(), here / "run" / "experiment.json")
    assert refused("evaluate", "run", "--allow", "tests") == (
        "suite evaluate: run run: has no complete checkpoint.\n  try:   suite train --resume run\n"
    )


def test_a_run_folder_that_is_taken(toy_run, refused):
    assert refused("train", "vision.digits_dnn", "--run-dir", toy_run) == (
        f'suite train: --run-dir "{toy_run}": already holds a run.\n  try:   suite train --resume {toy_run}\n'
    )


def test_a_checkpoint_of_another_model(refused, here):
    suite.train(toy.experiment(steps=5), "run")
    serialization.dump(replace(toy.experiment(steps=5), {"model.width": 8}), Path("run/experiment.json"))
    for verb in (("evaluate", "run"), ("train", "--resume", "run")):
        assert refused(*verb, "--allow", "tests") == (
            f"suite {verb[0]}: checkpoint {here}/run/checkpoints/5: was written by another model.\n"
            "  found: head/kernel (16, 2) (the model: (8, 2)); hidden/bias (16,) (the model: (8,)); "
            "hidden/kernel (4, 16) (the model: (4, 8))\n"
            "  try:   use the run folder's own experiment.json, or another --run-dir\n"
        )


def test_a_batch_that_is_not_divisible(refused, here):
    assert refused("train", "vision.digits_dnn", "--train.batch_size", "128", "--gradient.accumulate", "3") == (
        "suite train: field train.batch_size: 128 rows cannot be split evenly over 3 parts.\n"
        "  found: 1 devices that share a batch x 3 micro-batches\n"
        "  try:   suite train vision.digits_dnn --gradient.accumulate 3 --train.batch_size 126\n"
    )


def test_predict_without_input(toy_run, refused):
    assert refused("predict", toy_run, "--allow", "tests") == (
        "suite predict: flag --input: is missing.\n"
        f"  try:   suite predict {toy_run} --allow tests --input 'some text'\n"
    )


def test_no_experiment_named(refused):
    assert refused("train", "--train.steps", "3") == "suite train: EXPERIMENT: is missing.\n  try:   suite list\n"


def test_an_unknown_split(texts, refused):
    printed = refused("evaluate", texts[0], "--split", "tset")
    assert printed.endswith("  found: train, validation, test\n  try:   use 'test'\n")


def test_a_full_disk_at_the_start(small_disk, refused):
    """The state of the digits recipe: 19,210 parameters x (value + 2 moments), well under 1 MiB."""
    (small_disk / "filler").write_bytes(bytes(5 * 2**20 + 2**19))
    printed = refused("train", "vision.digits_dnn", "--smoke", "--run-dir", small_disk / "run")
    assert re.fullmatch(
        rf'suite train: disk of "{small_disk}/run": has no room for a checkpoint\.\n'
        r"  found: 0\.\d MiB free, a checkpoint needs 1\.3\n"
        r"  try:   free some space, or --run-dir DIR on another disk\n",
        printed,
    ), printed


def test_a_disk_that_fills_up_while_training(small_disk, capsys):
    """Saves are skipped, which is said once; training goes on to its end, where it is said what is lost. The checkpoint
    before is served, and once there is room the run goes on from it."""

    def fill(item):
        if item.first == 15:
            with open(small_disk / "filler", "wb") as file:
                file.write(bytes(os.statvfs(small_disk).f_bavail * 4096 - 2**19))

    folder = small_disk / "run"
    with pytest.raises(StorageError) as error:
        suite.train(toy.experiment(), folder, on_dispatch=fill)
    printed = capsys.readouterr().err
    assert re.findall(r"checkpoint at step (\d+) not written, training goes on: 0\.\d MiB free", printed) == ["20"]
    assert re.fullmatch(
        r"the checkpoint of step 40, the last, was not written: what was trained after step 10 is lost, the checkpoint "
        r"of step 10 is there\.\n  found: 0\.\d MiB free, a checkpoint needs 1\.\d\n"
        rf"  try:   free some space on the disk of {folder}; then suite train --resume {folder}",
        str(error.value),
    ), str(error.value)
    assert [path.name for path in (small_disk / "run" / "checkpoints").iterdir() if path.name.isdecimal()] == ["10"]
    assert len(suite.predict(folder, [[1, 2], [3]], allow=("tests",))) == 2
    (small_disk / "filler").unlink()
    assert suite.resume(folder, allow=("tests",)).metrics["train/steps"] == 40


def test_what_a_library_says_is_one_line():
    """MLIR quotes the traceback of what its walk calls, whose beginning says nothing."""
    import jax.export
    from jax.interpreters import mlir

    exported = jax.export.export(jax.jit(lambda x: x + 1))(1.0)
    with mlir.make_ir_context(), pytest.raises(Exception, match="Traceback") as error:
        mlir.ir.Module.parse(exported.mlir_module()).operation.walk(lambda operation: 1 / 0)
    assert first_line(error.value) == "ZeroDivisionError: division by zero"
    assert first_line(ValueError("one\ntwo")) == "one" and first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("x" * 400), 300) == "x" * 300 and first_line(ValueError("x" * 400)) == "x" * 400
