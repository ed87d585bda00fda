"""Bundles: what they answer, without the training code; and everything that is refused before it is used."""

import dataclasses
import json
import os
import shutil

import jax
import jax.export
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.bundles import integrity, manifest
from suite.bundles.bundle import Bundle
from suite.errors import InputError
from suite.experiment.serialization import to_json
from suite.exporting.tracing import batch_of
from suite.runs import run
from suite.runtime.compilation import CompileWatch
from suite.weights import safetensors
from tests.untrained import copied, resealed

FIX = "\n  try:   fetch the bundle again, or export the run again"
COLUMNS = {"text": ["the film was good .", "although the plot is dull , the cast was not bad ."]}


@pytest.fixture(scope="module")
def bundle(exported):
    return exported("texts")[1]


@pytest.fixture
def copy(bundle, tmp_path):
    """A copy that may be tampered with."""
    return copied(bundle, tmp_path / "bundle")


def refusal(folder, allow=()):
    with pytest.raises(InputError) as error:
        Bundle.open(folder, allow)
    return str(error.value).replace(str(folder), "FOLDER")


def test_it_is_what_the_run_said(bundle):
    assert bundle.name == "synthetic_sentiment" and len(bundle.version) == 16
    assert bundle.lengths == (8, 16, 24) and bundle.primary == "text"
    assert bundle.signature.inputs["tokens"] == manifest.Array(("b", "length"), "int32")
    assert bundle.signature.outputs == {"logits": manifest.Array(("b", 2), "float32")}
    assert {path.name for path in bundle.folder.iterdir()} == {
        "bundle.json",
        "weights.safetensors",
        "program",
        "assets",
        "model_card.md",
        "experiment.json",
    }


def test_it_is_no_run(bundle):
    """What reads its experiment as a run's would find neither the data nor the weights of one."""
    with pytest.raises(InputError, match="is a bundle, which answers; this needs the run that it was") as error:
        run.open(bundle.folder)
    assert error.value.found.startswith("the bundle of the run")


def test_answers_in_parts_and_as_a_whole(bundle):
    whole = bundle.predict(COLUMNS)
    assert bundle.predict(COLUMNS["text"]) == whole and bundle.predict([]) == []
    program = bundle.programs["predict"]
    rows = program.encode(COLUMNS)
    length = program.bucket(rows)
    assert length == 16
    for size in (0, 2, 8):
        parts = program.decode(program.outputs(rows, length, size), COLUMNS)
        assert [part["label"] for part in parts] == [answer["label"] for answer in whole]
        assert [part["probability"] for part in parts] == pytest.approx([a["probability"] for a in whole], abs=2e-6)
    with pytest.raises(InputError, match='input "text": is missing'):
        bundle.predict({"other": ["good"]})
    with pytest.raises(InputError, match=r'input "txt": is no input of this model\.\n  try:   text'):
        bundle.predict({"txt": ["good"]})


def test_what_is_warm_compiles_no_more(bundle):
    opened = Bundle.open(bundle.folder, cache=False).programs["predict"]
    opened.warm((1, 4))
    with CompileWatch() as watch:
        for text in ("good", "good " * 12, "good " * 400):
            opened.outputs(rows := opened.encode({"text": [text]}), opened.bucket(rows), 4)
    assert watch.compilations == 0


def test_an_opened_bundle_is_its_own(copy):
    """What happens to the folder afterwards changes no answer: another version takes its place, in place even."""
    opened, answers = Bundle.open(copy), Bundle.open(copy).predict(COLUMNS)
    with open(copy / "weights.safetensors", "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - size // 2)
        file.write(b"\x40" * (size // 2))
    shutil.rmtree(copy / "program")
    assert opened.predict(COLUMNS) == answers
    with open(copy / "weights.safetensors", "r+b") as file:
        file.truncate(100)
    assert opened.predict(COLUMNS) == answers


def test_weights_are_read_once(copy, monkeypatch):
    """Those that were compared are those that answer, though the file is another as soon as it has been compared."""
    answers, check = Bundle.open(copy).predict(COLUMNS), integrity.check

    def replaced(folder, about):
        made = check(folder, about)
        with open(copy / "weights.safetensors", "r+b") as file:
            file.truncate(4096)
        return made

    monkeypatch.setattr(integrity, "check", replaced)
    assert Bundle.open(copy).predict(COLUMNS) == answers


def test_files_are_named_by_this_machine_alone(exported, tmp_path):
    _, bundle = exported("images")
    (tmp_path / "secret.png").write_bytes(b"")
    with pytest.raises(InputError) as error:
        bundle.programs["predict"].encode({"image": [str(tmp_path / "secret.png")]})
    assert str(error.value) == (
        'input "image": must be the content of a file, and not its name.\n  found: a text\n  try:   bytes'
    )
    with pytest.raises(InputError, match=r"secret\.png: this image cannot be decoded"):
        bundle.predict({"image": [str(tmp_path / "secret.png")]})


def edited(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


def flipped(content):
    return bytes([*content[:-9], content[-9] ^ 1, *content[-8:]])


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "program/16.stablehlo", "assets/labels.json", "model_card.md", "experiment.json"]
)
def test_a_flipped_bit(copy, name):
    wanted = json.loads((copy / "bundle.json").read_text())["files"][name]["sha256"]
    edited(copy, name, flipped)
    said = refusal(copy)
    assert said.startswith(f'bundle "FOLDER", file "{name}": was changed: its checksum differs.\n  found: sha256 ')
    assert said.endswith(f"..., not {wanted[:16]}...{FIX}")


def test_a_file_that_was_cut_short(copy):
    size = (copy / "weights.safetensors").stat().st_size
    edited(copy, "weights.safetensors", lambda content: content[:-1])
    assert refusal(copy) == (
        f'bundle "FOLDER", file "weights.safetensors": has another size than it was written with.'
        f"\n  found: {size - 1:,} bytes, not {size:,}{FIX}"
    )


def test_a_file_that_is_missing(copy):
    (copy / "assets" / "tokenizer.model").unlink()
    (copy / "program" / "8.stablehlo").unlink()
    missing = "assets/tokenizer.model, program/8.stablehlo"
    assert refusal(copy) == f'bundle "FOLDER": is not complete.\n  found: no {missing}{FIX}'


def test_a_file_too_many(copy):
    (copy / "assets" / "run.py").write_text("print('hello')")
    assert refusal(copy) == (
        'bundle "FOLDER": holds files that its bundle.json does not name.\n'
        "  found: assets/run.py\n"
        "  try:   take them out, or fetch the bundle again, or export the run again"
    )


@pytest.mark.parametrize("name", ["assets/labels.json", "assets", "weights.safetensors", "bundle.json"])
def test_a_link(copy, tmp_path, name):
    shutil.move(copy / name, tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    said = refusal(copy)
    assert "holds something that is no plain file.\n  found: " in said and said.endswith(f"{name[-6:]}: a link{FIX}")


def test_something_else_than_a_file(copy):
    os.mkfifo(copy / "assets" / "pipe")
    assert refusal(copy).endswith(f": holds something that is no plain file.\n  found: pipe: no plain file{FIX}")


@pytest.mark.parametrize(
    "name",
    [
        "../labels.json",
        "/etc/passwd",
        "assets/../../labels.json",
        "assets/a/b.json",
        "assets\\labels.json",
        "assets/.hidden",
        "assets//labels.json",
        "ASSETS/labels.json",
        "program/x.stablehlo",
        "bundle.json",
        "",
        "assets/labels\n.json",
    ],
)
def test_names_that_lead_elsewhere(copy, name):
    content = json.loads((copy / "bundle.json").read_text())
    content["files"][name] = content["files"].pop("assets/labels.json")
    content["version"] = manifest._version(content)
    (copy / "bundle.json").write_text(json.dumps(content))
    assert refusal(copy) == f'bundle "FOLDER": its bundle.json names a file that no bundle has.\n  found: {name!r}{FIX}'


def test_a_manifest_that_was_changed(copy):
    edited(copy, "bundle.json", lambda content: content.replace(b'"synthetic_sentiment"', b'"something_else"', 1))
    said = refusal(copy)
    assert said.startswith('bundle "FOLDER": its bundle.json was changed: it does not give its own version.\n  found: ')


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "its bundle.json is not JSON: Expecting property name"),
        (b"[" * 100_000, "its bundle.json is nested too deeply."),
        (b"[" * 101 + b"]" * 101, "its bundle.json is nested too deeply."),
        (
            b'{"format": ' + b"9" * 5000 + b"}",
            "its bundle.json holds an integer that is too long.\n  found: 5,000 digits; at most 40",
        ),
        (b"\xff\xfe", "its bundle.json is not JSON: "),
        (b'{"format": 1, "format": 1}', "its bundle.json has a key twice in one object.\n  found: 'format'"),
        (b'{"name": "a\\ud800"}', "its bundle.json holds a lone surrogate, which is no character."),
        (b"[]", "its bundle.json is no JSON object.\n  found: list"),
        (
            b'{"format": 4}',
            "is of another format than this version reads.\n  found: format 4, not 1 or 2 or 3\n"
            "  try:   the version of the suite that wrote it, or export the run again",
        ),
        (b"{}", "is of another format than this version reads.\n  found: format None, not 1 or 2 or 3"),
        (b" " * (16 << 20) + b"{}", "is too large for what it is.\n  found: 16,777,218 bytes; at most 16,777,216"),
    ],
)
def test_a_manifest_that_is_none(copy, content, said):
    (copy / "bundle.json").write_bytes(content)
    assert said in refusal(copy)


@pytest.mark.parametrize("field", ["name", "codec", "signature", "lengths", "platforms", "metrics", "made", "files"])
@pytest.mark.parametrize("value", [None, 7, [[{}]]])
def test_a_manifest_of_wrong_types(copy, field, value):
    content = {**json.loads((copy / "bundle.json").read_text()), field: value}
    content["version"] = manifest._version(content)
    (copy / "bundle.json").write_text(json.dumps(content))
    assert refusal(copy).startswith('bundle "FOLDER": its bundle.json is not as suite export writes it.\n  found: ')


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("made", "versions"), 1),
        (("made", "versions", "jax"), {}),
        (("made", "recipe"), ["x"]),
        (("made", "checked"), 3),
        (("metrics", "test/accuracy"), 1.0),
        (("metrics", "test/accuracy"), {"value": "high"}),
        (("signature", "inputs", "tokens", "shape"), ["b", "width"]),
        (("signature", "inputs", "tokens", "shape"), ["b", -1]),
        (("signature", "inputs", "tokens", "dtype"), 32),
        (("lengths",), [-8, 8]),
        (("lengths",), [10**39]),
        (("lengths",), [True]),
        (("files", "weights.safetensors"), 1),
        (("files", "weights.safetensors", "bytes"), "all"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_manifest_of_wrong_types_within(copy, path, value):
    content = json.loads((copy / "bundle.json").read_text())
    *outer, last = path
    part = content
    for name in outer:
        part = part[name]
    part[last] = value
    content["version"] = manifest._version(content)
    (copy / "bundle.json").write_text(json.dumps(content))
    assert refusal(copy).startswith('bundle "FOLDER": its bundle.json is not as suite export writes it.\n  found: ')


@pytest.mark.parametrize("change", [{"dtype": "float64"}, {"shape": ["b", 3]}])
def test_a_manifest_that_states_other_inputs_than_its_programs(copy, change):
    """The server would compile for the inputs that are stated, and fail there."""
    signature = json.loads((copy / "bundle.json").read_text())["signature"]
    signature["inputs"]["tokens"] |= change
    resealed(copy, signature=signature)
    assert "does not fit the weights, inputs and outputs.\n  found: tokens" in refusal(copy)


@pytest.mark.parametrize("change", [{"dtype": "int32"}, {"shape": ["b", 3]}, {"shape": ["b"]}])
def test_a_manifest_that_states_other_outputs_than_its_programs(copy, change):
    signature = json.loads((copy / "bundle.json").read_text())["signature"]
    signature["outputs"]["logits"] |= change
    resealed(copy, signature=signature)
    assert "does not fit the weights, inputs and outputs.\n  found: logits" in refusal(copy)


def test_what_is_no_bundle(tmp_path, refused):
    assert refusal(tmp_path / "nothing") == (
        'bundle "FOLDER": is none: it has no bundle.json.\n  found: nothing\n  try:   suite export RUN --to BUNDLE'
    )
    assert "is not one: it has no experiment.json" in refused("predict", tmp_path, "--input", "good")
    (tmp_path / "experiment.json").write_text("{}")  # a run
    to = f"bundles/{tmp_path.name}"
    assert refused("serve", tmp_path).endswith(f"  try:   suite export {tmp_path} --to {to} && suite serve {to}\n")


def codec_of(folder):
    return json.loads((folder / "bundle.json").read_text())["codec"]


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "suite.runs.run.Run",
        "suite.data.sources.datasets.Table",
        "suite.experiment.sections.Optim",
        "tests.toy.Digits",
        "suite.data.textual.Evil",
    ],
)
def test_classes_that_a_codec_may_not_name(copy, name):
    resealed(copy, codec={**codec_of(copy), "labels": {"class": name}})
    assert f'bundle "FOLDER": its codec names the class "{name}", which is not one of the suite\'s.' in refusal(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"class": "suite.codecs.text.TextClasses"},
            "its codec is not as suite export writes it.\n  found: a value of another type than its field has",
        ),
        ({"class": "suite.data.preprocessing.labels.Labels", "file": ""}, "its codec is none.\n  found: Labels"),
        ([], "its bundle.json is not as suite export writes it.\n  found: codec []"),
        ({"class": "suite.codecs.text.Codec"}, "its codec names"),
        ({"class": "suite.codecs.text.TextClasses", "more": 1}, "its codec has no field more."),
    ],
)
def test_codecs_that_are_none(copy, change, said):
    resealed(copy, codec=change)
    assert refusal(copy).startswith(f'bundle "FOLDER": {said}')


@pytest.mark.parametrize("file", ["/etc/passwd", "../../labels.json", "assets/other.json", "experiment.json"])
def test_assets_that_lie_elsewhere(copy, file):
    codec = codec_of(copy)
    resealed(copy, codec={**codec, "labels": {**codec["labels"], "file": file}})
    assert refusal(copy) == f'bundle "FOLDER": its codec names a file that is no asset of it.\n  found: {file!r}{FIX}'


def test_weights_that_do_not_fit(copy):
    arrays = dict(safetensors.read(copy / "weights.safetensors"))
    arrays["params/more"] = np.zeros(3, np.float32)
    safetensors.write(copy / "weights.safetensors", lambda: arrays.items())
    said = refusal(resealed(copy))
    assert said == (
        'bundle "FOLDER", file "program/8.stablehlo": does not fit the weights, inputs and outputs.\n'
        f"  found: params/more{FIX}"
    )


def replaced_program(folder, function, platforms=("cpu",), **changes):
    """The program for length 8 is another function of the same arguments."""
    bundle = Bundle.open(folder)
    (b,) = jax.export.symbolic_shape("b")
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in bundle.weights.items()}
    options = {"platforms": platforms, "disabled_checks": changes.pop("disabled", ())}
    exported = jax.export.export(jax.jit(function), **options)(shapes, batch_of(bundle.signature.inputs, b, 8))
    exported = dataclasses.replace(exported, **changes)
    (folder / "program" / "8.stablehlo").write_bytes(bytes(exported.serialize()))
    return resealed(folder)


@pytest.mark.parametrize("name", ["xla_ffi_python_cpu_callback", "my_own_kernel"])
def test_a_program_that_calls_out(copy, name):
    """Such as into Python, at an address that the program names."""

    def calls(weights, batch):
        given = batch["tokens"][:, :2].astype(jnp.float32)
        call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct(given.shape, given.dtype))
        return {"logits": call(given, index=np.int64(0))}

    check = jax.export.DisabledSafetyCheck.custom_call(name)
    said = refusal(replaced_program(copy, calls, disabled=(check,)))
    assert said == (
        'bundle "FOLDER", file "program/8.stablehlo": contains operations that a bundle may not have, '
        f'since they could run other code.\n  found: custom call "{name}"\n'
        "  try:   a bundle from a source that you trust"
    )


def test_a_program_with_a_function_of_another_library(copy):
    def solves(weights, batch):
        square = jnp.eye(3) + batch["tokens"][:, :3, None].astype(jnp.float32)
        return {"logits": jnp.linalg.cholesky(square)[:, 0, :2]}

    assert 'found: custom call "lapack_spotrf_ffi"' in refusal(replaced_program(copy, solves))


def test_a_program_of_a_later_jax(copy):
    def answer(weights, batch):
        return {"logits": batch["tokens"][:, :2].astype(jnp.float32)}

    said = refusal(replaced_program(copy, answer, calling_convention_version=99))
    assert said == (
        f'bundle "FOLDER", file "program/8.stablehlo": cannot be read: it is no program of jax {jax.__version__}.\n'
        f"  found: calling convention 99{FIX}"
    )
    made = json.loads((copy / "bundle.json").read_text())["made"]
    said = refusal(resealed(copy, made={**made, "versions": {**made["versions"], "jax": "99.0.0"}}))
    assert f"cannot be read: it was made by jax 99.0.0, and this is jax {jax.__version__}." in said
    assert "  try:   install jax 99.0.0, or where the training code is: suite export --refresh BUNDLE" in said


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"no program", bytes(range(256)) * 40])
def test_a_program_that_is_none(copy, content):
    (copy / "program" / "8.stablehlo").write_bytes(content)
    said = refusal(resealed(copy))
    assert f'file "program/8.stablehlo": cannot be read: it is no program of jax {jax.__version__}.' in said


def test_programs_for_other_devices(copy):
    resealed(copy, platforms=["tpu"])
    assert refusal(copy) == (
        'bundle "FOLDER": has no program for this machine\'s devices, cpu.\n  found: tpu\n'
        "  try:   suite export RUN --platforms cpu --to BUNDLE"
    )


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "int8", "uint8", "int4", "uint4", "bool", "int64", "float8_e4m3fn"]
)
def test_arrays_of_any_type_come_back(tmp_path, dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    values = np.arange(21).reshape(3, 7).astype(np.float32) % (2 if dtype == "bool" else 8)
    arrays = {"a": values.astype(kind), "b": np.zeros((0, 4), kind), "c": np.array(1).astype(kind)}
    safetensors.write(tmp_path / "x", lambda: arrays.items(), {"format": "pt"})
    found = safetensors.read(tmp_path / "x")
    for name, array in arrays.items():
        assert found[name].dtype == kind and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name].astype(np.float32), array.astype(np.float32))
    if dtype in ("int4", "uint4"):
        assert (tmp_path / "x").stat().st_size < 400 and found["a"].nbytes == 21


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 90))
def test_tensors_that_are_none_are_refused(tmp_path_factory, noise, length):
    path = tmp_path_factory.mktemp("tensors") / "x"
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(length.to_bytes(8, "little") + header[: length // 2] + noise)
    with pytest.raises(InputError, match="are cut short or tampered with"):
        safetensors.read(path)


def test_offsets_outside_the_file_are_refused(tmp_path):
    for about in (
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "X", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": ",", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2**70], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        7,
    ):
        header = json.dumps({"a": about}).encode()
        (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
        with pytest.raises(InputError, match="are cut short or tampered with"):
            safetensors.read(tmp_path / "x")


def test_a_codec_is_stored_as_it_was(bundle):
    stored = codec_of(bundle.folder)
    assert stored["class"] == "suite.codecs.text.TextClasses"
    assert stored["tokenizer"]["file"] == "assets/tokenizer.model"
    assert {**to_json(bundle.codec), "tokenizer": 0, "labels": 0} == {**stored, "tokenizer": 0, "labels": 0}
