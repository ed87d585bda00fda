"""Published folders: ``config.json`` beside tensors by name, read one at a time and written in a stream.

Tensors are safetensors (one file, or shards with ``model.safetensors.index.json``), an .npz file, or what Flax models
were published in, ``flax_model.msgpack``. Pickles are never opened: reading one runs whatever code is in it.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suite.errors import InputError
from suite.runtime import json_files
from suite.weights import flax_msgpack, hub, safetensors

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
BESIDES = ("*.json", "*.txt", "*.model", "*.spm")
"""Small files that lie beside tensors: configs, tokenizers (Marian's are two .spm)."""
WANTED = (*BESIDES, "*.safetensors", "*.npz")
"""Files taken from a hub."""
FLAX = ("flax_model*.msgpack",)
"""Files taken from a hub that has none of those tensors."""


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
        InputError: nothing there, pickles only, no ``config.json``, or a file that is cut short or tampered with.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in PICKLES:
        raise _pickle(path.parent, path.name)
    if path.is_file():
        if path.suffix not in (".safetensors", ".npz", ".msgpack"):
            raise InputError(
                f'weights "{path}"', "are in no known file format.", fix=f"a folder with {CONFIG} and {WEIGHTS}"
            )
        return Published(path.parent, _config(path.parent), _tensors(path))
    if not path.is_dir():
        if not hub.is_name(source):
            raise InputError(
                f'weights "{source}"',
                "are no file, no folder and no name on the Hugging Face hub.",
                fix=f"a folder with {CONFIG} and {WEIGHTS}, or owner/name",
            )
        path = _fetch(str(source), offline)
    config = _config(path)
    if (path / INDEX).is_file():
        return Published(path, config, _shards(path, INDEX))
    files = (
        [path / WEIGHTS] if (path / WEIGHTS).is_file() else sorted([*path.glob("*.safetensors"), *path.glob("*.npz")])
    )
    if len(files) > 1:
        raise InputError(
            f'weights "{source}"',
            f"have several files of tensors and no {INDEX}.",
            found=", ".join(file.name for file in files),
            fix=f"name one: {files[0]}",
        )
    if not files and (path / flax_msgpack.INDEX).is_file():
        return Published(path, config, _shards(path, flax_msgpack.INDEX))
    if not files and (path / flax_msgpack.WEIGHTS).is_file():
        files = [path / flax_msgpack.WEIGHTS]
    if not files:
        raise _none(path, str(source))
    return Published(path, config, _tensors(files[0]))


def _none(folder: Path, source: str) -> InputError:
    names = sorted(file.name for file in folder.iterdir())
    pickles = [name for name in names if Path(name).suffix.lower() in PICKLES]
    if pickles:
        return _pickle(folder, pickles[0])
    return InputError(
        f'weights "{source}"',
        f"have no {WEIGHTS}, no {INDEX}, no .npz file and no {flax_msgpack.WEIGHTS}.",
        found=", ".join(names),
        fix="another revision or repository; those that hold pickles alone are refused",
    )


def _fetch(name: str, offline: bool) -> Path:
    """The folder in the hub's cache that holds the small files and tensors of ``name``."""
    folder = hub.fetch(name, offline, WANTED, nested=False)
    if not [*folder.glob("*.safetensors"), *folder.glob("*.npz")]:
        folder = hub.fetch(name, offline, (*WANTED, *FLAX), nested=False)
    return folder


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        inside = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
        raise InputError(
            f'weights "{folder}"',
            f"have no {CONFIG}, which says what the tensors mean.",
            found=inside,
            fix=f"put the published {CONFIG} beside them",
        )
    return _json(path)


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


def _pickle(folder: Path, name: str) -> InputError:
    code = (
        "import sys, torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() for k, v in "
        "torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])"
    )
    return InputError(
        f'weights "{folder / name}"',
        "are a pickle, and reading one runs the code in it: refused.",
        fix=f'where PyTorch is: python -c "{code}" {name} {WEIGHTS}',
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
