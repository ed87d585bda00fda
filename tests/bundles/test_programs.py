"""Several programs in one bundle: each with its codec, lengths and signature, over the same weights; seeds and
reference arrays are inputs."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import suite
from suite.bundles import manifest
from suite.bundles.bundle import Bundle
from suite.bundles.programs import constants
from suite.contracts.task import Program
from suite.errors import InputError, RunError
from suite.exporting import exporting, tracing
from suite.exporting.refreshing import refresh
from suite.weights import safetensors
from tests import toy, two_programs
from tests.conftest import ROOT
from tests.untrained import copied, resealed, untrained

OWN = ("tests",)
ROWS = [[1, 2, 3], [0, 0, 1, 3], [2] * 9]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained(two_programs.experiment(), tmp_path_factory.mktemp("two") / "run")


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    return suite.export(run, tmp_path_factory.mktemp("bundle") / "two", platforms=("cpu",), allow=OWN)


def test_each_program_is_whole(bundle):
    assert list(bundle.programs) == ["predict", "draw"]
    first, second = bundle.programs.values()
    assert bundle.codec is first.codec and type(second.codec).__name__ == "Drawing"
    assert (first.lengths, second.lengths) == ((6, 12), (6, 12, 16))
    assert first.signature.outputs == {"logits": manifest.Array(("b", 2), "float32")}
    assert second.signature.outputs == {"drawn": manifest.Array(("b", 8), "int32")}
    assert not first.samples and "seed" not in first.signature.inputs
    assert second.samples and second.signature.inputs["seed"] == manifest.Array(("b",), "uint32")
    files = {path.name for path in (bundle.folder / "program").iterdir()}
    assert files == {f"{name}.stablehlo" for name in ("6", "12", "draw-6", "draw-12", "draw-16")}
    assert sum(path.suffix == ".safetensors" for path in bundle.folder.iterdir()) == 2, "weights are stored once"
    assert first.arrays[0] is second.arrays[0], "and held once"
    assert json.loads((bundle.folder / "bundle.json").read_text())["format"] == 2


def test_run_and_bundle_answer_alike_by_each(run, bundle):
    assert bundle.predict(ROWS)[0].keys() == {"label", "probability", "top"}
    for ours, theirs in zip(bundle.predict(ROWS), run.predict(ROWS), strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-5)
    drawn = bundle.predict(ROWS, program="draw", seed=[5, 6, 7])
    assert drawn == run.predict(ROWS, program="draw", seed=[5, 6, 7])
    assert drawn != bundle.predict(ROWS, program="draw", seed=[6, 6, 7])
    assert suite.predict(bundle.folder, ROWS, OWN, program="draw", seed=5)[0] == drawn[0]


def test_a_seed_draws_the_same_alone_and_in_company(bundle):
    alone = [bundle.predict([row], program="draw", seed=seed)[0] for row, seed in zip(ROWS, (9, 9, 4), strict=True)]
    assert bundle.predict(ROWS, program="draw", seed=[9, 9, 4]) == alone
    equal = bundle.predict([ROWS[0]] * 100, program="draw", seed=3)
    assert equal == [equal[0]] * 100
    apart = bundle.predict([ROWS[0]] * 100, program="draw", seed=range(100))
    assert len({answer["more"] for answer in apart}) > 50


@pytest.mark.parametrize(
    ("seed", "said"),
    [
        (-1, "must be whole numbers of 32 bits.\n  found: -1"),
        (1 << 32, "must be whole numbers of 32 bits."),
        (0.5, "must be whole numbers of 32 bits."),
        ([1, 2], "must be one number, or one a record.\n  found: 2 for 3 records"),
    ],
)
def test_seeds_that_are_none(run, bundle, seed, said):
    for opened in (run, bundle):
        with pytest.raises(InputError) as error:
            opened.predict(ROWS, program="draw", seed=seed)
        assert f"seed: {said}" in str(error.value)


def test_a_program_that_is_none(run, bundle):
    for opened in (run, bundle):
        with pytest.raises(InputError) as error:
            opened.predict(ROWS, program="drow")
        assert str(error.value) == (
            'program "drow": is none of this model\'s.\n  found: predict, draw\n  try:   --program draw'
        )


def test_the_command(bundle, tmp_path, command, refused):
    (tmp_path / "rows.csv").write_text("digits\n1|2|3\n")
    asked = ("predict", bundle.folder, "--input", tmp_path / "rows.csv", "--allow", "tests")
    drawn = json.loads(command(*asked, "--program", "draw", "--seed", "5"))
    assert drawn["more"] == bundle.predict([[1, 2, 3]], program="draw", seed=5)[0]["more"]
    assert "label" in json.loads(command(*asked))
    assert refused(*asked, "--program", "drew").endswith(" --program draw\n")
    printed = refused(*asked, "--seed", "x")
    assert printed.startswith('suite predict: flag --seed: "x" is not a whole number.\n') and "--seed 0\n" in printed


def test_reference_arrays_go_with_the_bundle(run, bundle):
    """Rows of the whole catalogue in their order, embedded once; what is answered depends on them."""
    stored = safetensors.read(bundle.folder / "reference.safetensors")
    np.testing.assert_array_equal(stored["logits"], run.reference_arrays["logits"])
    assert stored["logits"].shape == (70, 2)
    rows = toy.Rows(70, seed=9)[np.arange(70)]["digits"]
    plain = dataclasses.replace(run, experiment=suite.replace(run.experiment, {"task": toy.Parity()}))
    plain.__dict__["_weights"] = run.variables
    codec = run.codec
    np.testing.assert_allclose(stored["logits"], plain.outputs(codec.encode({"digits": rows}), 12)["logits"], atol=1e-6)
    ours = bundle.programs["predict"].outputs(codec.encode({"digits": ROWS}), 12)["logits"]
    theirs = plain.outputs(codec.encode({"digits": ROWS}), 12)["logits"]
    np.testing.assert_allclose(ours, theirs - stored["logits"].mean(0), atol=1e-5)


def refusal(folder):
    with pytest.raises(InputError) as error:
        Bundle.open(folder, OWN)
    return str(error.value).replace(str(folder), "FOLDER")


def test_reference_arrays_that_are_not_those_of_the_export(bundle, tmp_path):
    folder = copied(bundle, tmp_path / "changed")
    content = (folder / "reference.safetensors").read_bytes()
    (folder / "reference.safetensors").write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    assert refusal(folder).startswith(
        'bundle "FOLDER", file "reference.safetensors": was changed: its checksum differs.'
    )
    safetensors.write(folder / "reference.safetensors", lambda: [("logits", np.zeros((3, 2), np.float32))])
    said = refusal(resealed(folder))
    assert said.startswith('bundle "FOLDER", file "program/6.stablehlo": does not fit the weights, inputs and outputs.')
    (folder / "reference.safetensors").unlink()
    assert "found: reference.safetensors" in refusal(resealed(folder))


def test_programs_of_a_manifest_are_checked(bundle, tmp_path):
    folder = copied(bundle, tmp_path / "changed")
    entry = json.loads((folder / "bundle.json").read_text())["programs"]["draw"]
    for programs, said in (
        ([], "programs []"),
        ({"predict": entry}, "program 'predict', twice"),
        ({"../x": entry}, "program '../x'"),
        ({"draw": {**entry, "lengths": []}}, "lengths ()"),
        ({"draw": 7}, "program 7"),
    ):
        assert said in refusal(resealed(folder, programs=programs))
    inputs = {
        **entry["signature"]["inputs"],
        "seed": {"shape": ["b"], "dtype": "uint32"},
        "more": {"shape": [], "dtype": ""},
    }
    changed = {**entry, "signature": {**entry["signature"], "inputs": inputs}}
    assert refusal(resealed(folder, programs={"draw": changed})).startswith(
        'bundle "FOLDER", file "program/draw-6.stablehlo": does not fit the weights, inputs and outputs.\n  found: more'
    )
    (folder / "program" / "draw-6.stablehlo").unlink()
    assert "is not complete.\n  found: no program/draw-6.stablehlo" in refusal(
        resealed(folder, programs={"draw": entry})
    )


def test_one_program_without_seeds_is_written_as_ever(exported):
    """So that what reads bundles of the first format reads it."""
    content = json.loads((exported("images")[1].folder / "bundle.json").read_text())
    assert content["format"] == 1 and "programs" not in content and "seed" not in content["signature"]["inputs"]


def test_seeds_are_inputs_where_answers_are_drawn(exported):
    """By the tasks' own generation: continuations are drawn, the likeliest ones are not."""
    bundle = exported("continuations")[1]
    assert bundle.programs["predict"].samples
    first, again, other = (bundle.predict(["one two"], seed=seed)[0] for seed in (1, 1, 2))
    assert first == again and first != other
    assert [answer for answer in bundle.predict(["three", "one two"], seed=[7, 1])][1] == first
    assert not exported("translations")[1].programs["predict"].samples


def test_a_program_that_differs_fails_the_export(run, tmp_path, monkeypatch):
    """Each is compared with the run, the others than the default one too."""
    write = exporting.write_programs

    def swapped(folder, traced):
        write(folder, traced)
        function = lambda model, batch, reference: {"drawn": two_programs.Two().draw(model, batch)["drawn"] * 0 + 7}
        weights = tracing.weights_of(*run.variables)
        inputs, reference = traced["draw"].inputs, run.reference_arrays
        for length in traced["draw"].by_length:
            wrong = tracing.trace(run.graph, function, weights, inputs, length, ("cpu",), reference)
            (folder / manifest.program(length, "draw")).write_bytes(bytes(wrong.serialize()))

    monkeypatch.setattr(exporting, "write_programs", swapped)
    with pytest.raises(RunError, match="does not answer as the run does, by the program draw: drawn differs by"):
        suite.export(run, tmp_path / "bundle", platforms=("cpu",), allow=OWN)
    assert not (tmp_path / "bundle").exists()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named(two_programs.Two):
    """With programs under other names, or asked for what the data don't have."""

    names: tuple[str, ...] = ()
    column: str = "digits"

    def programs(self):
        codec = two_programs.Drawing(digits=self.column)
        return {name: Program(self.draw, codec) for name in self.names}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            Named(names=("draw",)),
            "programs of Named: must have the one that answers where none is named.\n  found: draw\n  try:   predict",
        ),
        (
            Named(names=("predict", "draw it")),
            "programs of Named: must be named by letters, digits and underscores, at most 64, a letter first.\n"
            "  found: 'draw it'\n  try:   draw_it",
        ),
        (
            Named(names=("predict",), column="numbers"),
            "programs of Named: cannot be checked: the held-back records lack what predict is asked with.\n"
            "  found: no numbers\n  try:   a column numbers in the data, or an input that is not required",
        ),
    ],
)
def test_programs_that_cannot_be_exported(task, said, tmp_path):
    made = untrained(suite.replace(toy.experiment(), {"task": task}), tmp_path / "run")
    with pytest.raises(InputError) as error:
        suite.export(made, tmp_path / "bundle", platforms=("cpu",), allow=OWN)
    assert str(error.value) == said and not (tmp_path / "bundle").exists()


def test_refreshed(bundle, tmp_path):
    folder = copied(bundle, tmp_path / "two")
    drawn = bundle.predict(ROWS, program="draw", seed=5)
    (folder / "program" / "draw-6.stablehlo").write_bytes(b"of a JAX of long ago")
    resealed(folder)
    again = refresh(folder, allow=OWN)
    assert again.predict(ROWS, program="draw", seed=5) == drawn
    assert again.predict(ROWS) == bundle.predict(ROWS)
    assert {name: each.lengths for name, each in again.programs.items()} == {"predict": (6, 12), "draw": (6, 12, 16)}


def test_programs_do_not_tell_where_they_were_made(run, bundle, exported, tmp_path):
    """No path of the source, of the run or of the environment; so another folder gives the same bytes."""
    folders = [bundle.folder, exported("texts")[1].folder, exported("continuations")[1].folder]
    for path in (path for folder in folders for path in (folder / "program").iterdir()):
        content = path.read_bytes()
        for told in (b".py", b"site-packages", b"/tests/", str(ROOT).encode(), str(tmp_path.parent).encode()):
            assert told not in content, (path.name, told)
    jax.clear_caches()
    elsewhere = untrained(two_programs.experiment(), tmp_path / "elsewhere" / "run")
    other = suite.export(elsewhere, tmp_path / "other" / "two", platforms=("cpu",), allow=OWN)
    for path in sorted((bundle.folder / "program").iterdir()):
        assert (other.folder / "program" / path.name).read_bytes() == path.read_bytes(), path.name
    for name in ("weights.safetensors", "reference.safetensors"):
        assert (other.folder / name).read_bytes() == (bundle.folder / name).read_bytes()


def test_numbers_of_a_program_are_counted_complex_ones_too():
    held = np.arange(6.0, dtype=np.float32)
    counted = lambda function: constants(jax.export.export(jax.jit(function))(held).mlir_module())
    assert counted(lambda x: x + 2) == 0 and counted(lambda x: x + held) == 6
    assert counted(lambda x: x * (held + 1j * held)) == 6
