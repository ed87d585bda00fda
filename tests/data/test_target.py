"""Target: the problem that a column poses, what a model learns of it, and what is refused."""

import json

import numpy as np
import pytest

from suite.data.preprocessing.labels import UNSEEN, Labels
from suite.data.preprocessing.target import Target
from suite.data.preprocessing.target_scale import Scale
from suite.data.sources.datasets import Memory
from suite.errors import InputError

RNG = np.random.default_rng(0)
MANY = RNG.normal(size=400)


def fitted(tmp_path, values, classes=None, **fields):
    columns = {"y": values, "kind": np.arange(len(values)) % 3}
    Target(**fields).fit(Memory(columns, classes=classes), "y", tmp_path / "y.json")
    return Target(**fields, file=str(tmp_path / "y.json"))


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        (MANY, "number", ()),
        (np.arange(400) * 37 % 1999, "number", ()),
        (np.arange(400) % 30, "number", ()),
        (np.arange(60) % 5 + 1, "classes", ("1", "2", "3", "4", "5")),
        (np.arange(40) % 5 + 1, "number", ()),  # an eighth of the records are different
        (np.arange(60) % 5 / 2, "number", ()),
        (np.arange(60) % 2, "binary", ("0", "1")),
        ([True, False, None] * 20, "binary", ("False", "True")),
        (["no", "yes", "no"] * 20, "binary", ("no", "yes")),
        (["yes", "no", "yes"] * 20, "binary", ("no", "yes")),
        (["cat", "dog", "cat"] * 20, "binary", ("cat", "dog")),  # the rarer one is the event
        (["a", "b", "c"] * 20, "classes", ("a", "b", "c")),
        (["Drama|War", "War", "Drama", "Comedy|Drama"] * 9, "labels", ("Comedy", "Drama", "War")),
        ([["x", "y"], [], ["y"], None] * 9, "labels", ("x", "y")),
        (["Berlin, DE", "Munich, DE", "Paris, FR", "Lyon, FR"] * 9, "classes", None),
        ([1.5, 2, None] * 9, "binary", ("1.5", "2")),
    ],
)
def test_the_problem_is_inferred(tmp_path, values, kind, names):
    target = fitted(tmp_path, values)
    assert target.kind == kind
    if names is not None:
        assert target.names == names
    width = {"number": 1, "binary": 1}.get(kind, len(target.names))
    assert target.sizes() == {"outputs": width}


def test_what_is_taken_for_what_is_said_with_the_flag_that_overrules_it(tmp_path, capsys):
    fitted(tmp_path, np.arange(60) % 5 + 1)
    assert capsys.readouterr().err == (
        "column y: 5 classes (whole numbers of 5 different values): 1 12, 2 12, 3 12, 4 12, 5 12; otherwise: "
        "--task.answer.problem number, or ordered\n"
    )
    fitted(tmp_path, ["cat", "dog", "cat"] * 20)
    assert capsys.readouterr().err == (
        "column y: two classes, dog (20 records) against cat (40); dog is the event, the rarer one; "
        "--task.answer.positive cat turns it round\n"
    )
    source = Memory({"y": ["a|b", "b", "a", "c|a"] * 9})
    assert Target().describe(source, "y") == (
        "column y: 3 labels, several a record (texts that '|' parts, whose parts come again): a 27, b 18, c 9; 1.5 a "
        "record; otherwise: --task.answer.problem classes"
    )
    assert "free text or identifiers" in Target().describe(Memory({"y": [f"text {i}" for i in range(99)]}), "y")


def test_the_user_overrules(tmp_path):
    stars = np.arange(60) % 5 + 1
    assert fitted(tmp_path, stars, problem="number").kind == "number"
    ordered = fitted(tmp_path, stars, problem="ordered")
    assert ordered.names == ("1", "2", "3", "4", "5") and ordered.sizes() == {"outputs": 4} and not ordered.outputs
    words = fitted(tmp_path, ["low", "high", "mid"] * 9, order=("low", "mid", "high"))
    assert words.kind == "ordered" and words.encode(["high", "low"]).tolist() == [2, 0]
    assert fitted(tmp_path, ["yes", "no"] * 9, positive="no").names == ("yes", "no")
    one = fitted(tmp_path, ["a", "b", "c"] * 9, positive="c")
    assert one.names == ("not c", "c") and one.encode(["a", "c", "z", ""], held_out=True).tolist() == [0, 1, 0, UNSEEN]
    combined = fitted(tmp_path, ["a|b", "b", "a", "c|a"] * 9, problem="classes")
    assert combined.names == ("a", "a|b", "b", "c|a")
    assert fitted(tmp_path, ["a+b", "b", "a"] * 9, problem="labels", separator="+").names == ("a", "b")


@pytest.mark.parametrize(
    ("values", "fields", "problem", "fix"),
    [
        (
            ["a", "b", "c"] * 9,
            {"problem": "ordered"},
            "are texts: their order must be stated",
            "--task.answer.order a b c",
        ),
        (["a", "b", "c"] * 9, {"order": ("a", "c")}, "leaves out classes of column y: b", "--task.answer.order a c b"),
        (["yes", "no"] * 9, {"positive": "yess"}, '"yess" is no value of column y', "--task.answer.positive yes"),
        (["a", "b", "c", "a"] * 9, {"problem": "binary"}, "holds 3 different values", "--task.answer.positive b: that"),
        (np.ones(30), {"problem": "number"}, "all training records have the same number", "name another column"),
        (np.arange(300), {}, "it numbers the records", "--task.target kind"),
        (["a"] * 30, {}, "there is only one class", "--task.target kind"),
        ([f"text {i}" for i in range(90)], {}, "free text or identifiers", "--task.target kind"),
        (["one", "two"] * 9, {"problem": "number"}, "is no number", "--task.answer.problem classes"),
        ([None, None], {}, "no record has a target", "check the data"),
    ],
)
def test_what_cannot_be_learnt_is_refused(tmp_path, values, fields, problem, fix):
    with pytest.raises(InputError) as error:
        fitted(tmp_path, values, **fields)
    assert problem in str(error.value) and fix in error.value.fix


def test_records_without_a_target_are_dropped_and_counted(tmp_path):
    numbers = Memory({"y": np.array([1.0, np.nan, np.inf, 1e200, 2.5])})
    left = Target().with_targets(numbers, "y")
    assert left.column("y", np.arange(len(left))).tolist() == [1.0, 2.5]
    assert left.dropped == {"no target": 1, "an infinite target": 1, "a target beyond 1e+100": 1}
    assert Target().with_targets(Memory({"y": ["a", "", None, "b"]}), "y").dropped == {"no target": 2}
    assert Target().with_targets(Memory({"y": [["a"], [], None]}), "y").dropped == {"no target": 1}
    number = fitted(tmp_path, MANY)
    assert number.with_targets(Memory({"y": ["1.5", "n/a"]}), "y").dropped == {"no target": 1}


@pytest.mark.parametrize("scaling", ["standard", "log", "quantile"])
@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_a_number_comes_back_from_its_scale(scaling, offset):
    values = np.concatenate([np.exp(2 * MANY) + offset, [offset] * 30])
    scale = Scale.read(json.loads(json.dumps(Scale.fit(values, scaling).stored)))
    learnt = scale.scaled(values, np.float64)
    assert abs(learnt.mean()) < 1e-6 and abs(learnt.std() - 1) < 1e-6
    beyond = np.array([offset - 5, values.max() + 100, *values])
    np.testing.assert_allclose(scale.raw(scale.scaled(beyond, np.float64), bounded=False), beyond, rtol=1e-9, atol=1e-6)
    assert np.isnan(scale.scaled(np.array([np.nan]))).all()
    if scaling != "standard":  # an error of the model is not raised to a power
        assert scale.raw(np.array([1e9]))[0] <= values.max() + 0.1 * np.ptp(values) + 1e-6


def test_extremely_skewed_numbers_are_learnt_on_a_logarithmic_scale(tmp_path, capsys):
    skewed = np.exp(3 * RNG.normal(size=4000))
    assert fitted(tmp_path, skewed).scale.scaling == "log"
    assert "learnt on a logarithmic scale" in capsys.readouterr().err
    assert fitted(tmp_path, skewed, scaling="standard").scale.scaling == "standard"
    assert fitted(tmp_path, skewed - 1).scale.scaling == "standard"  # below 0 there is another tail


def test_targets_are_encoded(tmp_path):
    number = fitted(tmp_path, MANY)
    assert number.encode(np.array([np.nan, MANY.mean()])).tolist()[1] == pytest.approx(0, abs=1e-6)
    labels = fitted(tmp_path, ["a|b", "b", "a", "c|a"] * 9)
    assert labels.encode([" b | a ", "", "z|c"], held_out=True).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    with pytest.raises(InputError, match="'z' is not a class of the training split"):
        labels.encode(["z"])
    truth = fitted(tmp_path, ["true", "false"] * 9)
    assert truth.encode([True, "FALSE", 1]).tolist() == [1, 0, 1]
    named = fitted(tmp_path, np.arange(30) % 3, classes={"y": ["x", "y", "z"]})
    assert named.encode(np.array([2, 9]), held_out=True).tolist() == [2, UNSEEN] and named.encode(["y"]).tolist() == [1]


def test_numbers_of_another_style_are_read(tmp_path):
    (tmp_path / "t.csv").write_text(
        "y;x\n" + "".join(f"{i * 1.7 + 1000:.2f};{i}\n".replace(".", ",") for i in range(99))
    )
    from suite.data.sources.datasets import Table

    source = Table(path=str(tmp_path / "t.csv"), validation=0, test=0).open("train")
    Target().fit(source, "y", tmp_path / "y.json")
    target = Target(file=str(tmp_path / "y.json"))
    assert target.kind == "number"
    assert target.scale.raw(target.encode(["1000,00"]))[0] == pytest.approx(1000, rel=1e-6)


def test_classes_named_by_numbers_are_counted_once(tmp_path):
    """The data hold positions 0, 1, 2 of the classes 1, 2, 3."""
    places = np.array([0] * 6 + [1] * 3 + [2])
    target = fitted(tmp_path, places, classes={"y": ["1", "2", "3"]}, problem="classes")
    assert target.names == ("1", "2", "3") and target.counts == (6, 3, 1)
    Labels().fit(Memory({"y": places}, classes={"y": ["1", "2", "3"]}), "y", tmp_path / "labels.json")
    assert Labels(file=str(tmp_path / "labels.json")).counts == [6, 3, 1]


def test_an_array_of_indicators_holds_several_labels(tmp_path):
    indicators = np.eye(4, dtype=np.int64)[np.arange(40) % 4] | np.eye(4, dtype=np.int64)[np.arange(40) % 3]
    target = fitted(tmp_path, indicators)
    assert (target.kind, target.names) == ("labels", ("0", "1", "2", "3"))
    np.testing.assert_array_equal(target.encode(indicators), indicators)
    assert target.separated(indicators[:2]) == [["0"], ["1"]]


def test_a_stated_separator_poses_labels(tmp_path):
    target = fitted(tmp_path, ["a;b", "c;d"] * 20, separator=";")
    assert (target.kind, target.names) == ("labels", ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"positive": "a", "problem": "classes"}, "binary"),
        ({"order": ("b", "a"), "problem": "binary"}, "ordered"),
        ({"separator": ";", "problem": "number"}, "labels"),
        ({"order": ("b", "a"), "positive": "a"}, "binary"),
    ],
)
def test_what_the_problem_has_no_use_for_is_refused(tmp_path, fields, problem):
    with pytest.raises(InputError, match=f"is of the problem {problem}") as caught:
        fitted(tmp_path, ["a", "b", "a"] * 20, **fields)
    assert caught.value.fix == f"--task.answer.problem {problem}"
