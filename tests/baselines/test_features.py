"""Features and estimators of baselines: each kind of input and each problem, on records whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from suite.baselines import classical
from suite.baselines.classical import Classical, Prior, log_odds
from suite.baselines.sounds import BANDS, log_mel
from suite.contracts.signature import Input
from suite.data.preprocessing import dates

COUNT = 240


def codec(*entries, **settings):
    """What baselines ask of a codec whose inputs are ``(name, kind)``."""
    inputs = tuple(Input(name=name, kind=kind) for name, kind in entries)
    return SimpleNamespace(inputs=inputs, styles={}, opened=lambda columns: columns, **settings)


def said(codec, problem, outputs, columns, target, asked=None):
    """Predictions of the baseline that is fitted to the first three quarters, for the last quarter."""
    baseline = Classical(codec, problem, outputs, "target", lambda predicted: {"predicted": predicted})
    cut = 3 * COUNT // 4
    part = lambda values, first, last: {name: column[first:last] for name, column in values.items()}
    for first in range(0, cut, 60):
        baseline.add(part(columns, first, first + 60), {"target": target[first : first + 60]})
    baseline.fit()
    return baseline.title, baseline.outputs(part(asked or columns, cut, COUNT), {})["predicted"], target[cut:]


def texts(classes):
    """A text of noise with a word that its class decides."""
    rng = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "grey"])
    return [f"{rng.choice(words)} {'abc'[place]}word {rng.choice(words)}" for place in classes]


def test_texts_of_classes():
    classes = np.arange(COUNT) % 3
    title, chances, right = said(codec(("text", "text")), "classes", 3, {"text": texts(classes)}, classes)
    assert title == "tf-idf + logistic regression"
    assert (chances.argmax(1) == right).mean() == 1 and np.allclose(chances.sum(1), 1)


def test_texts_of_a_number_and_of_labels():
    classes = np.arange(COUNT) % 3
    columns = {"text": texts(classes)}
    title, values, right = said(codec(("text", "text")), "number", 1, columns, classes.astype(np.float32))
    assert title == "tf-idf + ridge regression" and abs(values - right).mean() < 0.1
    labels = np.stack([classes == 0, classes != 1, np.zeros(COUNT)], 1).astype(np.float32)
    _, chances, right = said(codec(("text", "text")), "labels", 3, columns, labels)
    assert ((chances > 0.5) == right).all()
    assert (chances[:, 2] == 0).all() and np.isfinite(log_odds(chances)).all()  # no record of training has it


def test_pairs_of_texts_are_compared():
    """Whether the second repeats the first, which neither of them says alone."""
    rng = np.random.default_rng(0)
    first = [f"word{rng.integers(1000)} word{rng.integers(1000)}" for _ in range(COUNT)]
    same = np.arange(COUNT) % 2
    second = [text if equal else first[place - 7] for place, (text, equal) in enumerate(zip(first, same, strict=True))]
    both = codec(("a", "text"), ("b", "text"))
    _, chances, right = said(both, "classes", 2, {"a": first, "b": second}, same)
    assert (chances.argmax(1) == right).mean() > 0.95


def table():
    rng = np.random.default_rng(0)
    return {
        "size": [None if place % 17 == 0 else float(value) for place, value in enumerate(rng.random(COUNT))],
        "city": [("Rome", "Oslo", None)[place] for place in rng.integers(3, size=COUNT)],
        "tags": [("new|red", "old", "")[place] for place in rng.integers(3, size=COUNT)],
        "day": [f"2024-0{1 + place}-11" for place in rng.integers(9, size=COUNT)],
    }


@pytest.mark.parametrize(
    ("name", "kind", "event"),
    [
        ("size", "number", lambda value: value is not None and value > 0.5),
        ("city", "category", lambda value: value == "Rome"),
        ("tags", "list", lambda value: "red" in value),
        ("day", "date", lambda value: value > "2024-05"),
    ],
)
def test_columns_of_a_table(name, kind, event):
    columns = table()
    entries = [("size", "number"), ("city", "category"), ("tags", "list"), ("day", "date")]
    fields = SimpleNamespace(separator="|", numbers=(SimpleNamespace(name="day", date=dates.ISO),))
    known = codec(*entries, fields=fields)
    target = np.array([int(event(value)) for value in columns[name]])
    title, chances, right = said(known, "binary", 1, columns, target)
    assert title == "gradient boosting" and ((chances[:, 0] > 0.5) == right).mean() > 0.95
    _, chances, right = said(known, "labels", 1, columns, target[:, None].astype(np.float32))  # by a linear model
    assert ((chances > 0.5) == right).mean() > 0.9
    if name == "size":
        unseen = {**columns, "city": ["Bern"] * COUNT, "tags": [None] * COUNT}
        assert np.isfinite(said(known, "labels", 1, columns, target[:, None].astype(np.float32), unseen)[1]).all()


def test_texts_beside_columns():
    classes = np.arange(COUNT) % 2
    columns = {"text": texts(classes), "size": table()["size"]}
    title, chances, right = said(codec(("text", "text"), ("size", "number")), "classes", 2, columns, classes)
    assert title == "gradient boosting" and (chances.argmax(1) == right).mean() > 0.95


def test_pictures_of_any_size():
    rng = np.random.default_rng(0)
    classes = np.arange(COUNT) % 3
    pictures = []
    for place in classes:
        height = int(rng.integers(20, 40))
        picture = rng.integers(0, 80, (height, 30, 3), dtype=np.uint8)
        picture[:, 10 * place : 10 * place + 10] += 120
        pictures.append(picture)
    title, chances, right = said(codec(("image", "image")), "classes", 3, {"image": pictures}, classes)
    assert title == "pixels + support vector machine" and (chances.argmax(1) == right).mean() == 1
    assert np.allclose(chances.sum(1), 1) and chances.max(1).mean() > 0.8
    _, values, right = said(codec(("image", "image")), "number", 1, {"image": pictures}, classes * 10.0)
    assert abs(values - right).mean() < 2


def test_recordings_by_their_pitch():
    rng = np.random.default_rng(0)
    classes = np.arange(COUNT) % 2
    waves = [
        np.sin(np.arange(rng.integers(2000, 4000)) * (0.2 + 0.3 * place)).astype(np.float32)
        + 0.1 * rng.standard_normal(1).astype(np.float32)
        for place in classes
    ]
    title, chances, right = said(codec(("audio", "audio")), "classes", 2, {"audio": waves}, classes)
    assert title == "log-mel statistics + support vector machine" and (chances.argmax(1) == right).mean() == 1


def test_log_mel_has_its_power_where_the_tone_is():
    tone = lambda frequency: np.sin(2 * np.pi * frequency * np.arange(16000) / 16000)
    low, high = (log_mel(tone(frequency), 16000) for frequency in (300, 3000))
    assert low.shape == (98, BANDS) and low.mean(0).argmax() < high.mean(0).argmax()
    assert log_mel(np.zeros(3, np.float32), 16000).shape == (1, BANDS)  # shorter than a frame


def test_the_constant_answer():
    answer = lambda predicted: {"predicted": predicted}
    shares = Prior("classes", 3, "target", answer)
    shares.add({}, {"target": np.array([0, 0, 0, 2])})
    shares.fit()
    assert shares.outputs({}, {"target": np.zeros(2)})["predicted"].tolist() == [[0.75, 0, 0.25]] * 2
    number = Prior("number", 1, "target", answer, lambda targets: float(np.log(np.exp(targets).mean())))
    number.add({}, {"target": np.log([1.0, 9.0])})
    number.fit()
    assert np.exp(number.outputs({}, {"target": np.zeros(1)})["predicted"]) == pytest.approx([5.0])


def test_training_of_one_class_alone():
    """Nothing can be learnt, and nothing fails."""
    ones = np.ones(COUNT, int)
    for entry, columns in ((("text", "text"), {"text": texts(ones)}), (("size", "number"), table())):
        _, chances, _ = said(codec(entry), "classes", 2, columns, ones)
        assert (chances.argmax(1) == 1).all()


def test_a_kind_that_has_no_features_has_no_baseline():
    assert classical.classical(codec(("points", "points")), "classes", 2, "target", lambda predicted: {}) == {}
