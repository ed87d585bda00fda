"""Vectors of frozen encoders, computed once and kept: in memory, and in files of the cache that later runs read.

Dims: n records, d width.
"""

import functools
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.data.preprocessing.text import clean
from suite.data.preprocessing.tokenizers import Tokenizer
from suite.runtime.compilation import cache_root
from suite.weights import pretrained

CHUNK = 32
"""Records whose vectors are computed at a time."""
FORMAT = 1
"""Raised where the vectors of the same weights and records become others."""


class Kept:
    """Vectors of one encoder, by what each record is known by.

    Args:
        source: published weights.
        changes: fields of their model's configuration, such as pooling.
        call: (encoder, rows) -> vectors (b, d). Jitted.
        about: what the vectors depend on besides, such as the size of images.
    """

    def __init__(self, source: str, changes: dict[str, Any], call: Callable[[Any, Any], jax.Array], about: str):
        self._source, self._changes, self._call = source, changes, call
        self._vectors: dict[bytes, np.ndarray] = {}
        self._lock = threading.Lock()
        digest = hashlib.blake2b(
            repr((FORMAT, _stamp(source), sorted(changes.items()), about)).encode(), digest_size=16
        )
        root = cache_root()
        self._folder = None if root is None else root / "vectors" / digest.hexdigest()
        self._read()

    @functools.cached_property
    def _encoder(self) -> Callable[[Any], jax.Array]:
        _, model = pretrained.load(self._source, **self._changes)
        graph, state = nnx.split(model)
        called = jax.jit(lambda state, rows: self._call(nnx.merge(graph, state), rows))
        return lambda rows: called(state, rows)

    def __call__(self, known: Sequence[str], rows: Callable[[list[int]], Any]) -> np.ndarray:
        """Vectors float32 (n, d).

        Args:
            known: what each record is known by.
            rows: places -> what the encoder is given of the records there, a tree of arrays (b, ...).
        """
        keys = [hashlib.blake2b(one.encode("utf-8", "surrogatepass"), digest_size=16).digest() for one in known]
        with self._lock:
            first = {key: place for place, key in enumerate(keys) if key not in self._vectors}
            fresh: dict[bytes, np.ndarray] = {}
            missing = list(first.items())
            for start in range(0, len(missing), CHUNK):
                chunk = missing[start : start + CHUNK]
                places = [place for _, place in chunk]
                filled = places + places[:1] * (CHUNK - len(places))  # one shape, compiled once
                vectors = np.asarray(self._encoder(rows(filled)), np.float32)
                fresh |= {key: vector for (key, _), vector in zip(chunk, vectors, strict=False)}
            if fresh:
                self._vectors |= fresh
                self._write(fresh)
            return np.stack([self._vectors[key] for key in keys])

    def _read(self) -> None:
        for file in sorted(self._folder.glob("*.npz")) if self._folder and self._folder.is_dir() else ():
            try:
                with np.load(file, allow_pickle=False) as stored:
                    keys, vectors = stored["keys"], stored["vectors"]
            except (OSError, ValueError, KeyError, EOFError):  # cut short; its vectors are computed again
                continue
            self._vectors |= {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}

    def _write(self, fresh: dict[bytes, np.ndarray]) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, suffix=".partial")
            with os.fdopen(handle, "wb") as file:
                keys = np.frombuffer(b"".join(fresh), np.uint8).reshape(-1, 16)
                np.savez(file, keys=keys, vectors=np.stack(list(fresh.values())))
            os.replace(name, f"{name.removesuffix('.partial')}.npz")
        except OSError:  # a full or read-only disk costs the next run its time, and this one nothing
            return


@functools.lru_cache(maxsize=4)
def kept_texts(source: str, tokenizer: str, length: int) -> Kept:
    """Vectors of texts by the mean of their tokens'; the encoder is given tokens and mask (b, t) each.

    Args:
        source: published weights of an encoder of texts.
        tokenizer: file of the tokenizer.
        length: tokens that texts are cut at.
    """
    changes = {"outputs": 0, "pooling": "mean"}  # of a published classifier, too, the vector before its head
    return Kept(source, changes, lambda model, rows: model(*rows), f"texts, {length} tokens")


def text_vectors(kept: Kept, texts: Sequence[str], tokenizer: Tokenizer, length: int) -> np.ndarray:
    """Vectors (n, d) of texts, by `kept_texts` of the same tokenizer and length."""
    cleaned = [clean(text) for text in texts]

    def rows(places: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return tokenizer.encode([cleaned[place] for place in places], length).padded(length)

    return kept(cleaned, rows)


def _stamp(source: str) -> tuple[Any, ...]:
    """What the weights are known by: their name, and the sizes and times of their files."""
    path = Path(source).expanduser()
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return source, *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
