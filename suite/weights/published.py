"""Published folders: ``config.json`` beside tensors by name, read one at a time and written in a stream.

Tensors are safetensors (one file, or shards with ``model.safetensors.index.json``), an .npz file, what Flax models were
published in, ``flax_model.msgpack``, or what ``torch.save`` wrote, ``pytorch_model.bin``. That is a pickle, a program:
`suite.weights.tensor_pickle` reads the description of tensors in it, and nothing of it is run.
"""

import json
import shlex
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.errors import InputError
from suite.runtime import json_files
from suite.weights import flax_msgpack, hub, safetensors, torch_files, undescribed

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = (".pkl", ".pickle")
"""Files of any Python objects."""
BESIDE_TRAINING = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")
"""What trainings leave beside the tensors of a model."""
BESIDES = ("*.json", "*.txt", "*.model", "*.spm")
"""Small files that lie beside tensors: configs, tokenizers (Marian's are two .spm)."""
WANTED = (*BESIDES, "*.safetensors", "*.npz")
"""Files taken from a hub."""
FALLBACKS = (("flax_model*.msgpack",), ("pytorch_model*.bin",))
"""Files taken from a hub that has none of those tensors, in this order."""


@dataclass(frozen=True)
class Published:
    """Weights as someone published them, nothing of them read yet.

    Attributes:
        folder: where they lie.
        config: what ``config.json`` says.
        readers: tensor name -> function that reads it.
    """

    folder: Path
    config: dict[str, Any]
    readers: Mapping[str, Callable[[], np.ndarray]]

    def beside(self, name: str) -> dict[str, Any] | None:
        """What the JSON file ``name`` beside the tensors says; None where there is none."""
        path = self.folder / name
        return _json(path) if path.is_file() else None

    def read(self, name: str) -> np.ndarray:
        """The tensor ``name`` in its published dtype.

        Raises:
            InputError: the file ends before it, or holds something else in its place.
        """
        try:
            return self.readers[name]()
        except InputError:
            raise
        except Exception as error:  # a Rust extension's and a zip file's many kinds
            raise _broken(self.folder, f"its tensor {name} cannot be read: {error}") from None


def open(source: str | Path, offline: bool = False) -> Published:
    """The weights in a folder, in a file of tensors beside its ``config.json``, or of a name on the hub.

    Args:
        source: a path, or ``owner/name`` or ``owner/name@revision`` on the Hugging Face hub; files of a name are
            fetched once and kept in the hub's own cache.
        offline: take names from that cache only.

    Raises:
        InputError: nothing there, pickles of more than tensors, no ``config.json`` where the tensors don't say what
            they are of, or a file that is cut short or tampered with.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in PICKLES:
        raise _pickle(path, "a file of any Python objects")
    if path.is_file():
        if path.suffix not in (".safetensors", ".npz", ".msgpack", *torch_files.SUFFIXES):
            raise InputError(
                f'weights "{path}"', "are in no known file format.", fix=f"a folder with {CONFIG} and {WEIGHTS}"
            )
        return _described(path.parent, _tensors(path), _stated(path.parent))
    if not path.is_dir():
        if not hub.is_name(source):
            raise InputError(
                f'weights "{source}"',
                "are no file, no folder and no name on the Hugging Face hub.",
                fix=f"a folder with {CONFIG} and {WEIGHTS}, or owner/name",
            )
        path = _fetch(str(source), offline)
    stated = _stated(path)  # a damaged one is told before what else the folder lacks
    for name, index, patterns in (
        (WEIGHTS, INDEX, ("*.safetensors", "*.npz")),
        (flax_msgpack.WEIGHTS, flax_msgpack.INDEX, ()),
        (torch_files.WEIGHTS, torch_files.INDEX, tuple(f"*{suffix}" for suffix in torch_files.SUFFIXES)),
    ):
        if (path / index).is_file():
            return _described(path, _shards(path, index), stated)
        if (path / name).is_file():
            return _described(path, _tensors(path / name), stated)
        files = sorted(file for pattern in patterns for file in path.glob(pattern) if file.name not in BESIDE_TRAINING)
        if len(files) > 1:
            raise InputError(
                f'weights "{source}"',
                f"have several files of tensors and no {index}.",
                found=", ".join(file.name for file in files),
                fix=f"name one: {files[0]}",
            )
        if files:
            return _described(path, _tensors(files[0]), stated)
    raise _none(path, str(source))


def _described(
    folder: Path, readers: Mapping[str, Callable[[], np.ndarray]], stated: dict[str, Any] | None
) -> Published:
    """The tensors with what ``config.json`` has ``stated`` of them; without it, what their own names and shapes do."""
    if stated is not None:
        return Published(folder, stated, readers)
    known = undescribed.described(readers)
    if known is None:
        raise _no_config(folder)
    return Published(folder, *known)


def _none(folder: Path, source: str) -> InputError:
    if not (folder / CONFIG).is_file():
        return _no_config(folder)
    names = sorted(file.name for file in folder.iterdir())
    pickles = [name for name in names if Path(name).suffix.lower() in PICKLES or name in BESIDE_TRAINING]
    if pickles:
        return _pickle(folder / pickles[0], "a file of any Python objects")
    return InputError(
        f'weights "{source}"',
        f"have no {WEIGHTS}, no {INDEX}, no .npz file, no {flax_msgpack.WEIGHTS} and no {torch_files.WEIGHTS}.",
        found=", ".join(names),
        fix="another revision or repository",
    )


def _fetch(name: str, offline: bool) -> Path:
    """The folder in the hub's cache that holds the small files and tensors of ``name``."""
    folder = hub.fetch(name, offline, WANTED, nested=False)
    wanted = tuple(WANTED)
    for more in FALLBACKS:
        if any([*folder.glob(pattern)] for pattern in wanted if pattern not in BESIDES):
            break
        wanted += tuple(more)
        folder = hub.fetch(name, offline, wanted, nested=False)
    return folder


def _stated(folder: Path) -> dict[str, Any] | None:
    """What ``config.json`` says; None where there is none."""
    path = folder / CONFIG
    return _json(path) if path.is_file() else None


def _no_config(folder: Path) -> InputError:
    inside = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
    return InputError(
        f'weights "{folder}"',
        f"have no {CONFIG}, which says what the tensors mean.",
        found=inside,
        fix=f"put the published {CONFIG} beside them",
    )


def _json(path: Path) -> dict[str, Any]:
    return json_files.read_object(path, "fetch it again")


def _tensors(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Readers of the tensors of one file; its header is read, and its sizes checked, now."""
    if path.suffix == ".npz":
        try:
            arrays = np.load(path, allow_pickle=False)
            return {name: _reader(arrays.__getitem__, name) for name in arrays.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise _broken(path, str(error)) from None
    if path.suffix == ".msgpack":
        return _flax(path)
    if path.suffix in torch_files.SUFFIXES:
        return _torch(path)
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, "numpy").__enter__()  # a memory map; it lives as long as its readers
        return {name: _reader(file.get_tensor, name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise _broken(path, str(error)) from None


def _flax(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    from msgpack.exceptions import UnpackException

    try:
        return flax_msgpack.tensors(path)
    except (UnpackException, ArithmeticError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise _broken(path, f"{type(error).__name__}: {error}") from None


def _torch(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    try:
        return torch_files.tensors(path)
    except torch_files.Refused as error:
        raise _pickle(path, str(error)) from None
    except torch_files.ERRORS as error:
        raise _broken(path, f"{type(error).__name__}: {error}") from None


def _reader(get: Callable[[str], np.ndarray], name: str) -> Callable[[], np.ndarray]:
    return lambda: get(name)


def _shards(folder: Path, index: str) -> dict[str, Callable[[], np.ndarray]]:
    places = _json(folder / index).get("weight_map")
    if isinstance(places, dict) and index == flax_msgpack.INDEX:
        places = {flax_msgpack.torch_name(tuple(name.split("/"))): file for name, file in places.items()}
    if not isinstance(places, dict):
        raise InputError(str(folder / index), "has no weight_map.", fix="fetch it again")
    foreign = sorted({str(file) for file in places.values() if Path(str(file)).name != file})
    if foreign:
        raise InputError(str(folder / index), "names files outside its folder.", found=", ".join(foreign))
    absent = sorted({file for file in places.values() if not (folder / file).is_file()})
    if absent:
        raise InputError(
            f'weights "{folder}"',
            f"lack shards that {index} names.",
            found=f"missing {', '.join(absent)}",
            fix="fetch them again",
        )
    opened = {file: _tensors(folder / file) for file in sorted(set(places.values()))}
    lost = [f"{name} in {file}" for name, file in places.items() if name not in opened[file]]
    if lost:
        raise InputError(
            f'weights "{folder}"', f"lack tensors that {index} names.", found=", ".join(lost), fix="fetch them again"
        )
    return {name: opened[file][name] for name, file in places.items()}


def _broken(path: Path, what: str) -> InputError:
    return InputError(f'weights "{path}"', "are cut short or tampered with.", found=what, fix="fetch them again")


def _pickle(path: Path, asks: str) -> InputError:
    code = (
        "import sys, torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() for k, v in "
        "torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])"
    )
    return InputError(
        f'weights "{path}"',
        "are a pickle that holds more than tensors by name, and reading such a one runs the code in it: refused.",
        found=asks,
        fix=f"where PyTorch is: python -c {shlex.quote(code)} {shlex.quote(path.name)} {WEIGHTS}",
    )


def write(folder: Path, config: Mapping[str, Any], arrays: safetensors.Arrays) -> None:
    """Write ``config.json`` and ``model.safetensors``, one tensor at a time.

    Args:
        folder: made if missing.
        config: what ``config.json`` says.
        arrays: gives the named arrays; called twice, for the header and for the data, so that no two need be held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.write(folder / WEIGHTS, arrays, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(dict(config), indent=2) + "\n", encoding="utf-8")
