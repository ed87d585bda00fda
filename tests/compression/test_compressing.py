"""suite compress: run folders of rounded weights, the verdict beside the run before, and what is refused."""

import dataclasses
import json
import os
import signal
import sys
import time
from dataclasses import dataclass

import jax
import numpy as np
import pytest

import suite
from suite.cli.app import main
from suite.compression import pruning, quantization, verdict
from suite.distribution import install
from suite.errors import InputError, Interrupted
from suite.experiment.compression import Sparsity
from suite.experiment.sections import replace
from suite.tree import paths
from tests import toy
from tests.conftest import simulated

KINDS = ("int8", "int4", "int8-dynamic", "int8-static")


def experiment(**changes):
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return replace(toy.experiment(), {"model.width": 256, "train.steps": 60, "train.eval_every": 60, **named})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return suite.train(experiment(), tmp_path_factory.mktemp("compressing") / "run")


@pytest.fixture(scope="module")
def rounded(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounded")
    return {kind: suite.compress(run, suite.Quantize(kind), folder / kind, max_drop=0.5) for kind in KINDS}


def opened(folder):
    return suite.open(folder, allow=("tests",))


@pytest.mark.parametrize("kind", KINDS)
def test_a_rounded_run_is_a_run(kind, run, rounded):
    made = opened(rounded[kind].folder)
    assert made.experiment.compression.quantize == kind
    formats = {str(leaf.dtype) for leaf in jax.tree.leaves(made._weights[0])}
    assert {"float32", "int8"} <= formats and ("uint8" in formats) == (kind == "int4")
    found = made.evaluate("validation").metrics
    assert found == pytest.approx(rounded[kind].metrics, abs=1e-6)
    assert found["validation/loss"] == pytest.approx(run.metrics["validation/loss"], rel=0.2)
    source = run.experiment.task.source("test")
    rows = source[np.arange(5)]
    before, after = run.predict(rows), made.predict(rows)
    assert [answer["label"] for answer in before] == [answer["label"] for answer in after]
    assert before != after


def test_the_verdict(run, rounded):
    found = json.loads((rounded["int8"].folder / "compression.json").read_text())
    assert found == verdict.read(rounded["int8"].folder)
    assert list(found) == [
        "method",
        "of",
        "split",
        "metric",
        "before",
        "after",
        "drop",
        "max_drop",
        "met",
        "size",
        "latency_ms",
        "memory_bytes",
        "parameters",
    ]
    assert (found["method"], found["of"], found["split"], found["metric"]) == (
        "int8",
        str(run.folder),
        "validation",
        "accuracy",
    )
    assert found["before"]["value"] == pytest.approx(run.metrics["validation/accuracy"])
    assert found["drop"]["value"] == pytest.approx(found["before"]["value"] - found["after"]["value"])
    for part in ("before", "after", "drop"):
        assert found[part]["low"] <= found[part]["value"] <= found[part]["high"]
    assert (found["max_drop"], found["met"]) == (0.5, True)
    leaves = jax.tree.leaves(rounded["int8"]._weights)
    assert found["size"]["after_bytes"] == sum(leaf.nbytes for leaf in leaves)
    assert found["size"]["ratio"] == found["size"]["after_bytes"] / found["size"]["before_bytes"]
    assert found["latency_ms"].keys() == {"1", "64"}
    for ms in found["latency_ms"].values():
        assert ms.keys() == {"float32", "before", "after", "ratio"}
        assert ms["after"] > 0 and ms["ratio"] == ms["after"] / ms["before"] and ms["float32"] == ms["before"]
    assert found["memory_bytes"]["after"] > 0
    count = 4 * 256 + 256 + 256 * 2 + 2
    assert found["parameters"]["before"] == found["parameters"]["after"] == count


def test_a_metric_of_which_less_is_better(run, tmp_path):
    changed = replace(experiment(), {"train.best": "-loss"})
    made = suite.compress(suite.train(changed, tmp_path / "run"), suite.Quantize("int4"), tmp_path / "int4")
    found = verdict.read(made.folder)
    assert found["metric"] == "loss" and found["max_drop"] is None and found["met"]
    assert found["drop"]["value"] == pytest.approx(found["after"]["value"] - found["before"]["value"])


def test_a_metric_that_records_have_no_part_in(run, tmp_path):
    """As a bound of an interval; refused before anything is made."""
    of_another = dataclasses.replace(run, experiment=replace(run.experiment, {"train.best": "auc_low"}))
    with pytest.raises(InputError) as error:
        suite.compress(of_another, suite.Quantize("int8"), tmp_path / "made")
    assert str(error.value).startswith(
        'field train.best: "auc_low" is no metric that records have a part in, so no difference can be told by it.\n'
        "  found: accuracy, loss, "
    )
    assert not (tmp_path / "made").exists()


def test_zeros_of_packed_weights_are_counted(rounded):
    from suite.compression.cost import parameters

    count, zeros = parameters(rounded["int4"]._weights[0])
    assert count == 4 * 256 + 256 + 256 * 2 + 2
    assert 0 < zeros < count / 2


def test_rounded_weights_on_two_devices(rounded, forked_child):
    """A batch is shared, or each matrix too: the numbers stay what they are."""
    folder = rounded["int8-dynamic"].folder
    printed = forked_child(
        f"""
import dataclasses, json, suite
from suite.experiment.sections import replace
run = suite.open({str(folder)!r}, allow=("tests",))
for changes in ({{}}, {{"parallel.data": 1, "parallel.fsdp": 2}}):
    made = dataclasses.replace(run, experiment=replace(run.experiment, changes))
    assert made._program.mesh.size == 2
    print(json.dumps(made.evaluate("validation").metrics))
""",
        **simulated(2),
    )
    for line in printed.splitlines():
        assert json.loads(line) == pytest.approx(rounded["int8-dynamic"].metrics, abs=1e-5)


# On the command line


def test_the_command_prints_the_verdict(run, command, tmp_path):
    printed = command(
        "compress",
        run.folder,
        "--quantize",
        "int8",
        "--allow",
        "tests",
        "--max-drop",
        "0.5",
        "--run-dir",
        tmp_path / "made",
        "--compression.keep",
        "^head",
    ).splitlines()
    assert printed[0] == f"int8 of {run.folder}"
    assert [line.split("  ")[0] for line in printed[1:8]] == [
        "",
        "validation/accuracy",
        "weights",
        "latency, 1 row",
        "latency, 64 rows",
        "memory",
        "parameters",
    ]
    assert printed[8].endswith("at most 0.5 allowed: met") and printed[-1] == str(tmp_path / "made")
    made, result = opened(tmp_path / "made"), json.loads((tmp_path / "made" / "result.json").read_text())
    assert (result["verb"], result["metrics"]) == ("compress", made.metrics)
    assert made.experiment.compression.keep == ("^head",)
    assert paths(made._weights[0])["head/kernel"].dtype == np.float32


def test_a_drop_beyond_the_bound_ends_with_3(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "compress",
                str(run.folder),
                "--quantize",
                "int8",
                "--allow",
                "tests",
                "--max-drop=-1",
                "--run-dir",
                str(tmp_path / "made"),
            ]
        )
    printed = capsys.readouterr()
    assert stop.value.code == 3
    assert printed.err.startswith("suite compress: validation/accuracy is ")
    assert printed.err.endswith(", at most -1 allowed: not met\n") and "Traceback" not in printed.err
    assert printed.out.splitlines()[-1] == str(tmp_path / "made")
    assert not verdict.read(tmp_path / "made")["met"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            (),
            "suite compress: flags: name one of --quantize, --prune, --distill.\n  found: none\n"
            "  try:   suite compress RUN --allow tests --quantize int8\n",
        ),
        (
            ("--quantize", "int7"),
            'suite compress: flag --quantize: "int7" is unknown.\n'
            "  found: int8, int4, int8-dynamic, int8-static\n"
            "  try:   suite compress RUN --allow tests --quantize int8\n",
        ),
        (
            ("--quantize", "int8", "--max-drop", "little"),
            'suite compress: flag --max-drop: "little" is not a number.\n'
            "  try:   suite compress RUN --allow tests --quantize int8 --max-drop 0.005\n",
        ),
        (
            ("--quantize", "int8", "--continue"),
            "suite compress: flag --continue: goes on with work that has begun, in a folder that is named.\n"
            "  try:   suite compress RUN --allow tests --quantize int8 --continue --run-dir runs/mine\n",
        ),
        (
            ("--prune", "0.5", "--aware"),
            "suite compress: flag --aware: belongs to --quantize.\n"
            "  found: --prune\n  try:   the flag --quantize instead, or no --aware\n",
        ),
        (
            ("--quantize", "int8", "--baseline"),
            "suite compress: flag --baseline: belongs to --distill.\n"
            "  found: --quantize\n  try:   the flag --distill instead, or no --baseline\n",
        ),
        (
            ("--quantize", "int8", "--smoke"),
            "suite compress: flag --smoke: belongs to --distill.\n"
            "  found: --quantize\n  try:   the flag --distill instead, or no --smoke\n",
        ),
        (
            ("--quantize", "int8", "--pattern=2:4"),
            "suite compress: flag --pattern: belongs to --prune.\n"
            "  found: --quantize\n  try:   the flag --prune instead, or no --pattern\n",
        ),
    ],
)
def test_refused_flags(flags, message, run, refused):
    assert refused("compress", run.folder, "--allow", "tests", *flags) == message.replace("RUN", str(run.folder))


def test_what_cannot_be_done_with_rounded_weights(rounded, refused, tmp_path):
    folder = rounded["int8"].folder
    assert refused("train", "--resume", folder, "--allow", "tests") == (
        "suite train: field compression.quantize: is int8: rounded weights are not trained.\n"
        "  try:   train the run that it was made of, and suite compress it again; or, to train for rounding, "
        "--compression.aware True in a new run\n"
    )
    why = "has weights that are rounded to int8.\n  try:   the run that it was made of; its compression.json says which"
    assert refused("compress", folder, "--quantize", "int4", "--allow", "tests") == (
        f'suite compress: run "{folder}": {why}\n'
    )
    assert refused("convert", folder, "--to", tmp_path / "to", "--allow", "tests") == (
        f'suite convert: run "{folder}": {why}\n'
    )


def test_a_folder_that_is_taken(run, rounded):
    with pytest.raises(InputError) as error:
        suite.compress(run, suite.Quantize("int8"), rounded["int8"].folder)
    assert error.value.problem == "already holds a run."
    before = (rounded["int8"].folder / "experiment.json").stat().st_mtime_ns
    again = suite.compress(run, suite.Quantize("int8"), rounded["int8"].folder, resume=True)
    assert again.metrics == rounded["int8"].metrics
    assert (rounded["int8"].folder / "experiment.json").stat().st_mtime_ns == before


def test_another_compression_is_not_taken_for_this_one(run, rounded):
    folder = rounded["int8"].folder
    with pytest.raises(InputError) as error:
        suite.compress(run, suite.Quantize("int4"), folder, resume=True)
    assert str(error.value) == (
        f'--run-dir "{folder}": holds another compression, or the beginning of one.\n'
        "  try:   the flags that it was begun with, or another --run-dir"
    )
    assert opened(folder).experiment.compression.quantize == "int8"


@dataclass(frozen=True, kw_only=True)
class Elsewhere(toy.MadeRows):
    """As many records, and not the same."""

    def open(self, split):
        return toy.Rows(57, 3)


@dataclass(frozen=True, kw_only=True)
class Others(toy.Parity):
    """Reads them."""

    @property
    def data(self):
        return Elsewhere()


def test_other_records_are_refused_before_anything_is_made(run, tmp_path):
    other = replace(suite.Quantize("int8").start(run), {"task": Others()})
    with pytest.raises(InputError) as error:
        suite.compress(run, suite.Quantize("int8"), tmp_path / "made", experiment=other)
    assert str(error.value) == (
        f"runs: {run.folder} and toy.parity read other records as validation, so their difference says little.\n"
        "  found: 57 and 57 records\n  try:   runs with the same data and split"
    )
    assert not (tmp_path / "made").exists()


def test_what_was_trained_outlives_a_late_refusal(run, tmp_path, monkeypatch):
    """Here that of the calibration, which follows training for rounding."""
    method, folder = suite.Quantize("int8-static", aware=True), tmp_path / "made"

    def refused(*arguments):
        raise InputError("records", "are gone.")

    with monkeypatch.context() as patch:
        patch.setattr(quantization, "calibrate", refused)
        with pytest.raises(InputError, match="are gone"):
            suite.compress(run, method, folder)
    assert [path.name for path in folder.glob("aware/checkpoints/[1-9]*")] == ["6"]
    logged = (folder / "aware" / "metrics.jsonl").read_bytes()
    assert suite.compress(run, method, folder, resume=True).experiment.compression.quantize == "int8-static"
    assert (folder / "aware" / "metrics.jsonl").read_bytes() == logged, "it was not trained again"


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_while_nothing_is_trained(signal_, run, tmp_path, monkeypatch):
    def stopping(*arguments):
        os.kill(os.getpid(), signal_)
        time.sleep(10)

    folder = tmp_path / "made"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(verdict, "compare", stopping)
            with pytest.raises(Interrupted) as stopped:
                suite.compress(run, suite.Quantize("int8"), folder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert str(stopped.value) == f"interrupted; go on with: the same command with --run-dir {folder} --continue"
    assert stopped.value.folder == folder
    assert suite.compress(run, suite.Quantize("int8"), folder, resume=True).metrics


def test_examples_a_second_are_those_of_the_evaluation(run, tmp_path, monkeypatch):
    made, begun = quantization.Quantize.make, time.perf_counter()

    def slow(*arguments):
        time.sleep(0.3)
        made(*arguments)

    monkeypatch.setattr(quantization.Quantize, "make", slow)
    suite.compress(run, suite.Quantize("int8"), tmp_path / "made")
    result = json.loads((tmp_path / "made" / "result.json").read_text())
    assert result["seconds"] < time.perf_counter() - begun - 0.3
    assert result["examples_per_second"] == pytest.approx(57 / result["seconds"], rel=0.02)


@pytest.mark.parametrize(
    "own, begin, end",
    [
        (Sparsity(share=0.5, pattern="2:4", begin=0.0, end=0.0), 0.0, 0.7),
        (Sparsity(share=0.5, begin=0.1, end=0.4), 0.1, 0.4),
        (Sparsity(begin=0.2, end=0.2), 0.2, 0.2),
    ],
)
def test_a_pruned_run_is_pruned_again_along_a_curve(own, begin, end, run, tmp_path, monkeypatch):
    """Not at once, in the step from which on it keeps the zeros that it has."""
    taught = []
    monkeypatch.setattr(pruning, "teach", lambda student, *others: taught.append(student))
    method, before = (
        suite.Prune(0.75),
        dataclasses.replace(run, experiment=replace(run.experiment, {"optim.sparsity": own})),
    )
    experiment = replace(method.start(before), {"compression.prune.pattern": "unstructured"})
    method.make(before, experiment, tmp_path / "made")
    assert taught[0].optim.sparsity == Sparsity(share=0.75, begin=begin, end=end)
    again = replace(experiment, {"optim.sparsity.end": 0.5})
    method.make(before, again, tmp_path / "made")
    assert taught[1].optim.sparsity.end == 0.5


def test_a_refused_compression_leaves_no_folder(run, tmp_path):
    changed = replace(suite.Quantize("int8").start(run), {"compression.keep": ("nothing",)})
    with pytest.raises(InputError, match="matches no layer"):
        suite.compress(run, suite.Quantize("int8"), tmp_path / "made", experiment=changed)
    assert not (tmp_path / "made").exists()


def test_without_the_package(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(InputError) as error:
        suite.Quantize("int8").start(run)
    assert str(error.value) == (
        f"package qwix: is needed to round weights, and not installed.\n  try:   {install('compress')}"
    )


def test_no_verdict(run):
    with pytest.raises(InputError) as error:
        verdict.read(run.folder)
    assert error.value.problem == "has no compression.json." and error.value.found == "a run"
