"""The command line: quick to answer, and each verb prints what its function returns."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib

import pytest

import suite
from suite import distribution
from suite.cli import app, fields, help
from suite.cli.flags import Verb
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.sections import replace
from tests.conftest import ROOT

HEAVY = (
    "jax",
    "flax",
    "optax",
    "orbax",
    "grain",
    "numpy",
    "tyro",
    "tensorflow",
    "torch",
    "sklearn",
    "PIL",
    "optuna",
    "sqlalchemy",
)


@pytest.mark.parametrize("arguments", [["--help"], [], ["help"], ["train", "--help"], ["list"], ["bogus"]])
def test_nothing_heavy_is_loaded_before_it_is_needed(arguments, child):
    code = f"""
import sys
from suite.cli.app import main
try:
    main({arguments!r})
except SystemExit:
    pass
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print("loaded:", loaded)
"""
    assert child(code).splitlines()[-1] == "loaded: []"


def test_both_ways_to_start_it():
    for command in ([sys.executable, "-m", "suite"], [sys.executable, "-c", "from suite.cli.app import main; main()"]):
        done = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == help.overview(app.VERBS) + "\n"


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["--help"], ["train", "--help"], ["completion", "bash"], ["train", "vision.digits_dnn", "--help"]],
)
def test_output_that_nobody_reads_ends_it_quietly(arguments):
    """As in ``suite list | head -1``, here of a reader that has gone before the first line."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "suite", *arguments], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (app.UNREAD, "")


def test_a_broken_pipe_of_something_else_is_an_error(monkeypatch):
    def verb(given):
        raise BrokenPipeError("a worker's")

    monkeypatch.setitem(app.VERBS, "list", Verb(app.VERBS["list"].flags, verb))
    with pytest.raises(BrokenPipeError, match="a worker's"):
        app.main(["list"])


def test_help_of_an_experiment_lists_its_fields(capsys):
    with pytest.raises(SystemExit) as stop:
        app.main(["train", "vision.digits_dnn", "--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    for text in ("--optim.learning_rate FLOAT", "Peak learning rate", "--model.hidden", "--task.label", "--train.ema"):
        assert text in printed


def test_plan(command):
    printed = command("plan", "vision.digits_dnn", "--model.hidden", "32")
    rows = dict(line.split(None, 1) for line in printed.splitlines() if line and not line.startswith(" "))
    assert rows["experiment"] == "vision.digits_dnn"
    assert rows["parameters"] == f"{64 * 32 + 32 + 32 * 10 + 10:,}"
    assert rows["fits"] == "yes"


def test_doctor_prints_what_is_needed(forked_child):
    """On a machine with faults it ends with 1, on others with 0."""
    printed = forked_child("""
from suite.cli.app import main
try:
    main(["doctor"])
except SystemExit as stop:
    assert stop.code == 1
""")
    for text in ("jax", "flax", "python", "cpu"):
        assert text in printed.lower()


def test_inspect_prints_counts(command):
    printed = command("data", "inspect", "vision.digits_dnn")
    for split in ("train", "validation", "test"):
        assert split in printed and f"{len(suite.load('vision.digits_dnn').task.source(split)):,}" in printed


def test_inspect_of_a_path(command, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(200)))
    printed = command("data", "inspect", "--data", table)
    assert "train" in printed and "label" in printed


def test_train_evaluate_predict(command, tmp_path):
    folder = tmp_path / "run"
    printed = command(
        "train", "vision.digits_dnn", "--smoke", "--train.seed", "3", "--optim.learning_rate=1e-2", "--run-dir", folder
    ).splitlines()
    assert printed[-1] == str(folder) and any(line.startswith("validation/accuracy ") for line in printed)
    made = suite.open(folder)
    assert (made.experiment.train.seed, made.experiment.optim.learning_rate) == (3, 1e-2)
    printed = command("evaluate", folder, "--split", "validation", "--batch-size", "7").splitlines()
    result = json.loads((folder / "result.json").read_text())
    assert result["verb"] == "evaluate" and printed[-1] == str(folder)
    name, value = printed[0].split()
    assert float(value) == pytest.approx(result["metrics"][name], rel=1e-5)


def test_the_flags_are_the_fields():
    experiment = recipes.load("text.sst2_encoder")
    flags = ["--train.steps", "7", "--pipeline.buckets", "8", "16", "--train.best=-loss"]
    made = fields.apply_flags(experiment, flags, "suite")
    assert made == replace(experiment, {"train.steps": 7, "pipeline.buckets": (8, 16), "train.best": "-loss"})


def test_a_value_that_is_no_number_is_answered_by_one_that_switches_on():
    """Zero, which is the recipe's, would leave it off."""
    experiment = recipes.load("vision.digits_dnn")
    for flag, proposed in (("privacy.epsilon", "3.0"), ("task.decision.coverage", "0.9"), ("optim.clip_norm", "0.0")):
        with pytest.raises(InputError) as error:
            fields.apply_flags(experiment, [f"--{flag}", "abc"], "suite")
        assert error.value.problem == '"abc" is not a number.' and error.value.fix == f"--{flag} {proposed}"


@pytest.mark.parametrize(
    ("typed", "where", "problem", "fix"),
    [
        ("--task.tiles.size 480", "flag --task.tiles.size", "None or 2 whole numbers", "--task.tiles.size 480 480"),
        ("--task.tiles.size 0 0", "flag --task.tiles.size", "an integer from 1 to", "--task.tiles.size 1 1"),
        ("--task.tiles.overlap=1.0", "flag --task.tiles.overlap", "from 0.0 to 0.75", "--task.tiles.overlap 0.75"),
        ("--task.tile.size 9 9", "flag --task.tile.size", "is not a field", "suite --task.tiles.size 9 9"),
        ("--train.loggers wandby", "flag --train.loggers", '"wandby" is unknown', "--train.loggers wandb"),
        # The nearest by its letters is the overlap of tiles, which means something else.
        ("--task.decision.coverage 0.9", "flag --task.decision.coverage", "is not a field", "suite --help"),
    ],
)
def test_a_refused_field_names_its_flag_and_a_value_that_it_takes(typed, where, problem, fix):
    with pytest.raises(InputError) as error:
        fields.apply_flags(recipes.load("vision.detect"), typed.split(), "suite")
    assert error.value.where == where and problem in error.value.problem and error.value.fix == fix


def test_advice_for_training_is_given_where_it_can_be_followed():
    error = InputError("column age", "is no number.", fix="correct the record, or --task.fields.categorical age")
    assert app._advised(error, "train", ["table.predict"]).fix == error.fix
    assert app._advised(error, "predict", ["run"]).fix == "correct the record"


def test_going_on_with_other_flags_is_refused(command, refused, tmp_path):
    begun = ("train", "vision.digits_dnn", "--smoke", "--run-dir", tmp_path / "run", "--continue")
    command(*begun, "--train.seed", "3")
    command(*begun)  # what is not stated stays
    assert command(*begun, "--train.seed", "3", "--parallel.data", "1").splitlines()[-1] == str(tmp_path / "run")
    said = refused(*begun, "--train.seed", "4", "--optim.learning_rate", "0.5")
    assert "optim.learning_rate was 0.0" in said and "train.seed was 3, now 4" in said
    assert "name was 'vision.digits_dnn', now 'text.classify'" in refused("train", "text.classify", *begun[2:])
    assert suite.open(tmp_path / "run").experiment.train.seed == 3


def test_a_run_that_left_out_what_a_flag_is_of_goes_on(command, tmp_path):
    """A table of numbers has no part for pictures: the same command is no other one."""
    rows = [f"{i % 7},{i % 5},{i % 7 + 0.5 * (i % 5)}" for i in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,price", *rows]))
    begun = ("train", "table.predict", "--data", tmp_path / "t.csv", "--target", "price", "--train.steps", "2")
    begun += ("--train.baseline", "false", "--model.parts.image.norm", "group", "--run-dir", tmp_path / "run")
    begun += ("--train.batch_size", "0")  # the run chooses one
    for _ in range(2):
        assert command(*begun, "--continue").splitlines()[-1] == str(tmp_path / "run")


def test_version(command, child, monkeypatch):
    """Of the checkout; of an installed distribution from its metadata."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert command("--version") == f"suite {stated['version']}\n" and suite.__version__ == stated["version"]
    assert stated["name"] == distribution.NAME
    monkeypatch.setattr(distribution, "project", lambda: {})
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {distribution.NAME: "9.9"}[name])
    assert suite.__version__ == "9.9"


def test_the_api_can_be_looked_through():
    assert set(suite.__all__) <= set(dir(suite)) and "__version__" in dir(suite)


def test_the_advice_to_install_is_of_the_checkout_or_of_the_distribution(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert distribution.install("tune") == "pip install -e '.[tune]'"
    monkeypatch.chdir(tmp_path)
    assert distribution.install("tune") == f"pip install -e '{ROOT}[tune]'"
    monkeypatch.setattr(distribution, "project", lambda: {})
    assert distribution.install("tune") == "pip install 'jax-model-suite[tune]'"
    assert distribution.install() == "pip install jax-model-suite"


def test_lines_of_the_log_have_no_module_before_them(child):
    """Some library logs by the root, which gives each later line the name of its module otherwise."""
    printed = child(
        "import contextlib, io, logging, sys; from suite.cli import app\n"
        "def verb(rest):\n"
        "    logging.warning('the library')\n"
        "    logging.getLogger('suite.weights').warning('the suite')\n"
        "app._verb = lambda *named: verb\n"
        "with contextlib.redirect_stderr(io.StringIO()) as told:\n"
        "    app._run(['list'])\n"
        "print(told.getvalue())"
    )
    assert printed == "the library\nthe suite\n\n"
