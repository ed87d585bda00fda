"""Files of ``torch.save``: tensors are read, whatever else they ask for is refused, and nothing of them is run."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from suite.errors import InputError
from suite.weights import published, tensor_pickle, torch_files

KINDS = {"FloatStorage": "float32", "LongStorage": "int64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"}
STATE = {
    "encoder.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "encoder.bias": np.array([1.5, -2.0], np.float16),
    "narrow": np.array([[1.0, 2.0]], ml_dtypes.bfloat16),
    "steps": np.array(7, np.int64),
    "nothing": np.zeros((0, 3), np.float32),
}


class Called:
    """Stands in a pickle for a call of ``module.name(*arguments)``."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments


class Named:
    """Stands in a pickle for ``module.name``."""

    def __init__(self, name):
        self.name = name


class Stored:
    """Stands in a pickle for a persistent identifier."""

    def __init__(self, *identifier):
        self.identifier = identifier


def written(value, protocol=2):
    """The pickle of a value made of the above, plain containers, numbers and texts."""

    def items(value):
        if isinstance(value, Named):
            return b"c%s\n" % value.name.replace(" ", "\n").encode()
        if isinstance(value, Called):
            return items(Named(value.name)) + items(tuple(value.arguments)) + b"R"
        if isinstance(value, Stored):
            return items(tuple(value.identifier)) + b"Q"
        if isinstance(value, dict):
            return b"}(" + b"".join(items(key) + items(entry) for key, entry in value.items()) + b"u"
        if isinstance(value, tuple):
            return b"(" + b"".join(map(items, value)) + b"t"
        return pickle.dumps(value, protocol)[2:-1]

    return bytes([0x80, protocol]) + items(value) + b"."


def described(state, strides=None, shape=None, offset=0):
    """The dictionary that torch.save pickles for arrays, each with a storage of its own."""
    entries = {}
    for key, (name, array) in enumerate(state.items()):
        kind = next(kind for kind, format in KINDS.items() if format == array.dtype.name)
        storage = Stored("storage", Named(f"torch {kind}"), str(key), "cpu", array.size)
        own = tuple(size // array.itemsize for size in array.strides)
        entries[name] = Called(
            "torch._utils _rebuild_tensor_v2",
            storage,
            offset,
            array.shape if shape is None else shape,
            own if strides is None else strides,
            False,
            Called("collections OrderedDict"),
        )
    return entries


def archive(path, description, state=STATE, compression=zipfile.ZIP_STORED, order=b"little"):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", description if isinstance(description, bytes) else written(description))
        file.writestr("archive/byteorder", order)
        for key, array in enumerate(state.values()):
            file.writestr(f"archive/data/{key}", array.tobytes())
    return path


def stream(path, description, state=STATE):
    """The format before PyTorch 1.6."""
    head = [torch_files._MAGIC, torch_files._VERSION, {"little_endian": True}]
    pickles = [*map(written, head), written(description), pickle.dumps([str(i) for i in range(len(state))], 2)]
    storages = [struct.pack("<q", array.size) + array.tobytes() for array in state.values()]
    path.write_bytes(b"".join([*pickles, *storages]))
    return path


def same(path, state=STATE):
    readers = torch_files.tensors(path)
    assert readers.keys() == state.keys()
    for name, array in state.items():
        got = readers[name]()
        assert got.dtype == array.dtype and got.shape == array.shape, name
        np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("write", [archive, stream])
def test_tensors_of_both_formats(write, tmp_path):
    same(write(tmp_path / "weights.pt", described(STATE)))


def test_a_view_of_a_storage(tmp_path):
    turned = {"weight": np.arange(6, dtype=np.float32)}
    path = archive(tmp_path / "weights.bin", described(turned, strides=(1, 2), shape=(2, 2), offset=1), turned)
    np.testing.assert_array_equal(torch_files.tensors(path)["weight"](), [[1, 3], [2, 4]])


def test_what_a_training_kept_beside_the_model(tmp_path):
    same(archive(tmp_path / "last.ckpt", {"epoch": 3, "state_dict": described(STATE), "optimizer": None}))


def test_what_pytorch_itself_writes(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    state = {**model.state_dict(), "turned": torch.arange(6.0).reshape(2, 3).t()}
    expected = {name: tensor.numpy() for name, tensor in state.items()}
    for number, how in enumerate(({}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4})):
        torch.save(OrderedDict(state), tmp_path / f"{number}.pt", **how)
        same(tmp_path / f"{number}.pt", expected)


class Run:
    """What a pickle calls when Python's own reader reads it."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return Path.touch, (self.folder / "was run",)


CALLS = {
    "a call of the system": (Called("os system", "true"), "the name 'os.system'"),
    "a call inside a tensor": ({"a": Called("builtins eval", "1")}, "the name 'builtins.eval'"),
    "a name alone": ({"a": Named("posix system")}, "the name 'posix.system'"),
    "a module that loads code": ({"a": Called("torch load", "x")}, "the name 'torch.load'"),
    "arguments of a dictionary": ({"a": Called("collections OrderedDict", ())}, "a call of collections OrderedDict"),
    "a call of a text": (b"\x80\x02X\x01\x00\x00\x00a)R.", "a call of something else than a function"),
    "an object": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "instruction NEWOBJ"),
    "an instance": (b"\x80\x02(cos\nsystem\no.", "the name 'os.system'"),
    "an extension": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "a name by texts": (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "the name 'os.system'"),
    "state of a class": (b"\x80\x02ccollections\nOrderedDict\n}b.", "attributes of something else than a dictionary"),
    "another identifier": (Stored("module", "a", "b", "c", 1), "a persistent identifier of something else"),
    "another kind of storage": (Stored("storage", Named("collections OrderedDict"), "0", "cpu", 1), "a storage of no"),
    "a key that takes forever to be hashed": (b"\x80\x02}((t" + b"q\x00h\x00\x86" * 40 + b"K\x01u.", "a key that is a"),
    "items of a tuple": (b"\x80\x02)K\x01a.", "items for something else than a list"),
    "entries of a tensor's storage": (b"\x80\x02)K\x01K\x01s.", "entries for something else than a dictionary"),
    "a number": (3, "a int in the place of tensors by name"),
    "no tensors": ({}, "no tensors"),
    "objects beside tensors": ({**described(STATE), "epoch": 3}, "entries that are no tensors: epoch"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_pickle_that_asks_for_more_than_tensors(name, tmp_path):
    description, asked = CALLS[name]
    for write in (archive,) if isinstance(description, bytes) else (archive, stream):
        path = write(tmp_path / "weights.pt", description)
        with pytest.raises(InputError) as refusal:
            published._torch(path)
        assert refusal.value.found.startswith(asked), refusal.value.found
        assert "refused" in refusal.value.problem


def test_nothing_of_a_hostile_pickle_is_run(tmp_path):
    archive(tmp_path / "pytorch_model.bin", pickle.dumps(Run(tmp_path), 2))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds more than tensors by name"):
        published.open(tmp_path)
    assert not (tmp_path / "was run").exists()
    pickle.loads(pickle.dumps(Run(tmp_path), 2))  # the same pickle, by Python's own reader
    assert (tmp_path / "was run").exists()


SIZES = {
    "beyond the storage": {"offset": 1},
    "more numbers than the storage": {"shape": (1 << 40,), "strides": (0,)},
    "sizes without strides": {"shape": (2, 2), "strides": (1,)},
    "a negative stride": {"shape": (2,), "strides": (-1,)},
    "a negative size": {"shape": (-2,), "strides": (1,)},
    "a size that overflows": {"shape": (2, 1 << 63), "strides": (1, 1)},
}


@pytest.mark.parametrize("name", SIZES)
def test_a_tensor_outside_its_storage(name, tmp_path):
    state = {"weight": np.arange(4, dtype=np.float32)}
    path = archive(tmp_path / "weights.pt", described(state, **{"shape": (4,), "strides": (1,), **SIZES[name]}), state)
    with pytest.raises(InputError, match="refused"):
        published._torch(path)


def test_a_storage_that_is_not_in_the_file(tmp_path):
    state = {"weight": np.arange(4, dtype=np.float32)}
    short = {"weight": state["weight"][:3]}
    for write, kept in ((archive, short), (archive, {}), (stream, short)):
        path = write(tmp_path / "weights.pt", described(state), kept)
        with pytest.raises(InputError, match="cut short or tampered with"):
            {name: read() for name, read in published._torch(path).items()}


@pytest.mark.parametrize("write", [archive, stream])
def test_a_damaged_file(write, tmp_path):
    """Cut anywhere, or with one byte changed, a file is read as it was, or refused in a line; it never raises more."""
    path = write(tmp_path / "weights.pt", described(STATE))
    whole = path.read_bytes()
    damaged = [whole[:end] for end in range(0, len(whole), 41)]
    damaged += [
        whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :] for at in range(0, len(whole), 17) for flip in (1, 255)
    ]
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            for read in published._torch(path).values():
                read()
        except InputError:
            refused += 1
    assert refused > len(damaged) / 3


def test_limits_of_time_and_memory(tmp_path, monkeypatch):
    deep = b"\x80\x02" + b"]" + b"\x85" * 2000 + b"."  # a tuple in a tuple, and so on
    monkeypatch.setattr(tensor_pickle, "MOST_STEPS", 1000)
    with pytest.raises(InputError, match="refused"):
        published._torch(archive(tmp_path / "a.pt", deep))
    huge = b"\x80\x02X\xff\xff\xff\x7fabc."  # a text of two gigabytes, of which three bytes are there
    with pytest.raises(InputError, match="cut short"):
        published._torch(archive(tmp_path / "a.pt", huge))
    aside = b"\x80\x02K\x01r\xff\xff\xff\x7f."  # put aside under a number of which lesser readers make a list
    with pytest.raises(InputError, match="refused"):
        published._torch(archive(tmp_path / "a.pt", aside))
    with pytest.raises(tensor_pickle.Refused):
        tensor_pickle.load(io.BytesIO(deep))


def test_a_compressed_archive_or_another_byte_order(tmp_path):
    bomb = archive(tmp_path / "a.pt", described(STATE), compression=zipfile.ZIP_DEFLATED)
    other = archive(tmp_path / "b.pt", described(STATE), order=b"big")
    for path, said in ((bomb, "a compressed archive"), (other, "another byte order")):
        with pytest.raises(InputError) as refusal:
            published._torch(path)
        assert said in refusal.value.found


def test_a_folder_of_shards_and_what_trainings_leave_beside(tmp_path):
    first, second = dict(list(STATE.items())[:2]), dict(list(STATE.items())[2:])
    archive(tmp_path / "pytorch_model-1.bin", described(first), first)
    archive(tmp_path / "pytorch_model-2.bin", described(second), second)
    archive(tmp_path / "training_args.bin", Called("os system", "true"))
    (tmp_path / "config.json").write_text("{}")
    places = {name: f"pytorch_model-{1 if name in first else 2}.bin" for name in STATE}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    weights = published.open(tmp_path)
    np.testing.assert_array_equal(weights.read("steps"), 7)
    assert weights.readers.keys() == STATE.keys()
    (tmp_path / "pytorch_model.bin.index.json").unlink()
    with pytest.raises(InputError, match="several files of tensors"):
        published.open(tmp_path)
    (tmp_path / "pytorch_model-2.bin").unlink()
    assert published.open(tmp_path).readers.keys() == first.keys()
