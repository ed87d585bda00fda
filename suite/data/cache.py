"""Prepared TFDS splits, decoded once into files that are mapped into memory."""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from suite.distribution import missing
from suite.errors import InputError
from suite.runtime import json_files
from suite.runtime.compilation import cache_root

CHUNK = 4096
"""Records decoded at a time."""
FORMAT = 2
"""Raised where what is decoded changes, so that older files are left alone."""
Decoded = tuple[dict[str, Any], dict[str, str], dict[str, list[str]]]
"""Columns, schema and class names of a split."""


class Packed:
    """Strings or byte strings end to end in one array, so that a large column is a file mapped into memory.

    Args:
        data: (bytes,) uint8.
        offsets: (n + 1,) int64 starts, and the end of the last.
        text: decode entries as UTF-8; otherwise they are bytes.
    """

    def __init__(self, data: np.ndarray, offsets: np.ndarray, text: bool):
        self.data, self.offsets, self.text = data, offsets, text

    @classmethod
    def of(cls, entries: Sequence[bytes], text: bool) -> "Packed":
        """Packs ``entries``."""
        offsets = np.zeros(len(entries) + 1, np.int64)
        np.cumsum([len(entry) for entry in entries], out=offsets[1:])
        return cls(np.frombuffer(b"".join(entries), np.uint8), offsets, text)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, indices: np.ndarray) -> list[Any]:
        starts, ends = self.offsets[indices].tolist(), self.offsets[np.asarray(indices) + 1].tolist()
        entries = [self.data[start:end].tobytes() for start, end in zip(starts, ends, strict=True)]
        return [entry.decode("utf-8", "replace") for entry in entries] if self.text else entries


def split_names(folder: Path) -> list[str]:
    """Names of the splits of a prepared dataset that hold records, from its dataset_info.json."""
    return [split["name"] for split in info(folder)["splits"] if any(int(n) for n in split.get("shardLengths", []))]


def info(folder: Path) -> dict[str, Any]:
    """The dataset_info.json of a prepared dataset."""
    description: dict[str, Any] = json_files.read_object(folder / "dataset_info.json")
    return description


def root() -> Path | None:
    """Where decoded data is kept; None where nothing is, with SUITE_CACHE=off."""
    folder = cache_root()
    return None if folder is None else folder / "data"


def opened(folder: Path, name: str, split: str) -> Decoded:
    """A split of the prepared dataset in ``folder``: from the cache, or decoded and, where possible, cached.

    Raises:
        InputError: the dataset is not stored in a format that can be read.
    """
    stamp = (folder / "dataset_info.json").stat().st_mtime_ns
    tag = hashlib.blake2b(f"{folder.resolve()} {stamp} {FORMAT}".encode(), digest_size=4).hexdigest()
    plain = name.partition(":")[0].replace("/", "_")
    folder_of_cache = root()
    if folder_of_cache is None:
        return _decode(folder, name, split)
    target = folder_of_cache / f"{plain}-{folder.name}-{split}-{tag}"
    if (target / "meta.json").exists():
        return _load(target)
    decoded = _decode(folder, name, split)
    try:
        _store(target, decoded)
    except OSError:  # read-only home, full disk: go on from memory
        return decoded
    return _load(target)


def _store(target: Path, decoded: Decoded) -> None:
    """Writes all files into a new folder, then gives it its name in one step."""
    columns, schema, classes = decoded
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        for number, column in enumerate(columns.values()):
            packed = isinstance(column, Packed)
            np.save(folder / f"{number}.npy", column.data if packed else column)
            if packed:
                np.save(folder / f"{number}.offsets.npy", column.offsets)
        meta = {"columns": list(columns), "schema": schema, "classes": classes}
        (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        folder.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was first: its files are the same
            os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not (target / "meta.json").exists():
        raise OSError(f"{target} could not be written")


def _load(target: Path) -> Decoded:
    meta = json_files.read_object(target / "meta.json")
    columns: dict[str, Any] = {}
    for number, name in enumerate(meta["columns"]):
        data = np.load(target / f"{number}.npy", mmap_mode="r")
        offsets = target / f"{number}.offsets.npy"
        if offsets.exists():
            columns[name] = Packed(data, np.load(offsets), text=meta["schema"][name] == "text")
        else:
            columns[name] = data
    return columns, meta["schema"], meta["classes"]


def _kinds(features: Any) -> dict[str, str]:
    """Feature -> kind, for the features that are one value or one fixed array a record, or a list of classes."""
    kinds = library().features

    column_kinds: dict[str, str] = {}
    for name, feature in features.items():
        dtype = feature.np_dtype if isinstance(feature, kinds.FeatureConnector) else None
        if isinstance(feature, kinds.Image):
            column_kinds[name] = "image"
        elif isinstance(feature, kinds.ClassLabel):
            column_kinds[name] = "class"
        elif isinstance(feature, kinds.Text) or _is_list_of_classes(feature) or _is_text(feature, dtype):
            column_kinds[name] = "text"
        elif type(feature) in (kinds.Scalar, kinds.Tensor) and None not in feature.shape and dtype != np.object_:
            column_kinds[name] = "float" if np.dtype(dtype).kind == "f" else "int"
    return column_kinds


def _is_text(feature: Any, dtype: Any) -> bool:
    return bool(feature.shape == () and dtype == np.object_)


def _is_list_of_classes(feature: Any) -> bool:
    kinds = library().features

    return isinstance(feature, kinds.Sequence) and isinstance(feature.feature, kinds.ClassLabel)


def _joined(feature: Any, labels: np.ndarray) -> bytes:
    """The names of a list of classes, as one text."""
    return "|".join(feature.feature.int2str(int(label)) for label in labels).encode("utf-8")


def library() -> Any:
    """TensorFlow Datasets, which reads what it prepared without TensorFlow.

    Raises:
        InputError: it is not installed.
    """
    try:
        import array_record  # noqa: F401
        import tensorflow_datasets
    except ImportError as error:
        raise missing("tensorflow-datasets", "to read prepared datasets", "tfds") from error
    return tensorflow_datasets


def _decode(folder: Path, name: str, split: str) -> Decoded:
    """Decodes all records of a split. Images of no fixed size stay encoded; lists of classes become their names."""
    tfds = library()
    builder = tfds.builder_from_directory(folder)
    features = builder.info.features
    kinds = _kinds(features)
    loose = [key for key, kind in kinds.items() if kind == "image" and None in features[key].shape]
    try:
        records = builder.as_data_source(split=split, decoders={key: tfds.decode.SkipDecoding() for key in loose})
    except NotImplementedError as error:
        fix = f"tfds build {shlex.quote(name)} --file_format array_record"
        raise InputError(f"dataset {name}", "it is not stored as ArrayRecord", found=str(folder), fix=fix) from error
    packed = {key for key, kind in kinds.items() if kind == "text" or key in loose}
    chunks: dict[str, list[Any]] = {key: [] for key in kinds}
    for start in range(0, len(records), CHUNK):
        rows = records.__getitems__(list(range(start, min(start + CHUNK, len(records)))))
        for key in kinds:
            values = [row[key] for row in rows]
            if _is_list_of_classes(features[key]):
                values = [_joined(features[key], value) for value in values]
            chunks[key].append(values if key in packed else np.asarray(values, features[key].np_dtype))
    columns = {
        key: Packed.of([entry for chunk in parts for entry in chunk], kinds[key] == "text")
        if key in packed
        else np.concatenate(parts)
        for key, parts in chunks.items()
    }
    classes = {key: list(features[key].names) for key, kind in kinds.items() if kind == "class" and features[key].names}
    return columns, kinds, classes
