"""Several processes as one run: what one decides and all follow, what all have, and whether all see the run folder.

Every function here is for all processes to call, in the same order; with one process each is what its name says of
that one. How processes find each other is in `suite.parallel.rendezvous`, which rows of a batch each has in
`suite.parallel.batch_shards`.
"""

import dataclasses
import json
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from suite.contracts.metric import MetricState
from suite.errors import InputError, RunError

T = TypeVar("T")
SHARED_SECONDS = 10.0
"""How long a file that process 0 wrote may take to appear on the others: network file systems cache folders."""


def is_first() -> bool:
    """Whether this is process 0: the one that writes the run folder and talks."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether the run has more than one process."""
    return jax.process_count() > 1


def exchanged(payload: bytes) -> list[bytes]:
    """What each process gave, in the order of their numbers."""
    if not several():
        return [payload]
    from jax.experimental.multihost_utils import process_allgather

    sizes = np.asarray(process_allgather(np.int32(len(payload)))).reshape(-1)
    width = max(256, 1 << int(sizes.max()).bit_length())  # few different shapes, each of which compiles
    padded = np.zeros(width, np.uint8)
    padded[: len(payload)] = np.frombuffer(payload, np.uint8)
    rows = np.asarray(process_allgather(padded)).reshape(len(sizes), width)
    return [row[:size].tobytes() for row, size in zip(rows, sizes.tolist(), strict=True)]


def agreed(decide: Callable[[], T]) -> T:
    """What ``decide``, called by process 0 alone, returned (a JSON value) or raised: on all processes."""
    if not several():
        return decide()
    told, error = b"", None
    if is_first():
        try:
            told = json.dumps({"value": decide()}).encode()
        except Exception as raised:
            error, told = raised, json.dumps(_as_told(raised)).encode()
    answer = json.loads(exchanged(told)[0])
    if error is not None:
        raise error
    if "value" not in answer:
        raise _as_raised(answer)
    return answer["value"]


def after_first(make: Callable[[], T]) -> T:
    """``make``, by process 0 and then, once it is done, by the others, which find the files that it left."""
    results: list[T] = []
    agreed(lambda: results.append(make()))
    return results[0] if results else make()


def together(make: Callable[[], T]) -> T:
    """``make`` by all at once. Where it fails on one, it fails on all.

    Raises:
        RunError: it raised, on another process; else what it raised on this one.
    """
    value, error = None, None
    try:
        value = make()
    except Exception as raised:
        if not several():
            raise
        error = raised
    told = [text.decode() for text in exchanged(_named(error).encode())]
    if error is not None:
        raise error
    failed = [f"process {i}: {text}" for i, text in enumerate(told) if text]
    if failed:
        raise RunError("; ".join(failed))
    return value  # type: ignore[return-value]


def _named(error: Exception | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"


def _as_told(error: Exception) -> dict[str, Any]:
    if isinstance(error, InputError):
        return {"input": [error.where, error.problem, error.found, error.fix]}
    return {"os": str(error)} if isinstance(error, OSError) else {"run": _named(error)}


def _as_raised(told: Mapping[str, Any]) -> Exception:
    if "input" in told:
        where, problem, found, fix = told["input"]
        return InputError(where, problem, found=found, fix=fix)
    return OSError(told["os"]) if "os" in told else RunError(f"process 0: {told['run']}")


def fetched(outputs: Any) -> Any:
    """A tree of device arrays on the host, whole, wherever their parts lie."""
    if not several():
        return jax.device_get(outputs)
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(outputs, tiled=True)


def added(sums: Mapping[str, MetricState]) -> dict[str, MetricState]:
    """Metric states by name, added over all processes, in their order: the same on each of them."""
    if not several():
        return dict(sums)
    total: dict[str, MetricState] = {}
    for payload in exchanged(_packed({name: (state.total, state.count) for name, state in sums.items()})):
        held = _unpacked(payload)
        for name, own in sums.items():
            theirs = dataclasses.replace(own, total=held[name][0], count=held[name][1])
            total[name] = total[name] + theirs if name in total else theirs
    return total


def gathered(value: Any) -> list[Any]:
    """What each process gave, in the order of their numbers: numbers and arrays, in tuples, lists and dicts."""
    return [_unpacked(payload) for payload in exchanged(_packed(value))] if several() else [value]


def _packed(value: Any) -> bytes:
    """Numbers and arrays, in tuples, lists and dicts of any depth, as ``_unpacked`` reads them: arrays, and beside them
    how they are nested, in JSON. No process takes objects, or code, from another."""
    arrays: list[np.ndarray] = []

    def form(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return {"tuple" if isinstance(value, tuple) else "list": [form(item) for item in value]}
        if isinstance(value, Mapping):
            return {"dict": {name: form(item) for name, item in value.items()}}
        arrays.append(np.asarray(value))
        return len(arrays) - 1

    nested = np.frombuffer(json.dumps(form(value)).encode(), np.uint8)
    file = BytesIO()
    np.savez(file, **{"form": nested, **{str(place): array for place, array in enumerate(arrays)}})  # type: ignore[arg-type]
    return file.getvalue()


def _unpacked(payload: bytes) -> Any:
    held = np.load(BytesIO(payload))

    def value(form: Any) -> Any:
        if isinstance(form, int):
            return held[str(form)][()]
        ((kind, inner),) = form.items()
        if kind == "dict":
            return {name: value(item) for name, item in inner.items()}
        return tuple(map(value, inner)) if kind == "tuple" else list(map(value, inner))

    return value(json.loads(held["form"].tobytes()))


def check_shared(folder: Path) -> None:
    """That all processes have the same run folder before them.

    Raises:
        InputError: a process does not see what process 0 wrote there.
    """
    if not several():
        return
    mark = folder.absolute() / agreed(lambda: f".shared-{uuid.uuid4().hex}")

    def leave_mark() -> None:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    agreed(leave_mark)
    until = time.monotonic() + SHARED_SECONDS
    while not mark.exists() and time.monotonic() < until:
        time.sleep(0.1)
    answers = [text.decode() for text in exchanged(b"" if mark.exists() else socket.gethostname().encode())]
    agreed(lambda: mark.unlink(missing_ok=True))
    blind = [f"process {i} on {host}" for i, host in enumerate(answers) if host]
    if blind:
        raise InputError(
            f'--run-dir "{folder}"',
            "is not shared: not every process sees what process 0 writes there.",
            found=f"no sign of it before {', '.join(blind)}",
            fix="--run-dir DIR on a file system that all hosts mount under the same path",
        )
