"""Stored runs and their bundles: answers and further training, by the public API alone, which later revisions keep.

``python -m tests.legacy.asking NAME...`` prints it as JSON, a line a name; see `asked` for the environment.
"""

import base64
import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.legacy.data import WRITERS

HERE = Path(__file__).parent
FLAGS = "--xla_backend_optimization_level=0"
"""The same for those who wrote and those who compare: XLA's optimisations decide the last bits."""
NARROW = "--xla_cpu_max_isa=AVX2"
"""Where processors are x86: programs use the instructions that all of them have."""


def asked(names: list[str]) -> dict[str, Any]:
    """`observed` of each name, in a process whose settings decide the bits."""
    flags = f"{FLAGS} {NARROW}" if platform.machine() == "x86_64" else FLAGS
    settings = {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "SUITE_ONEDNN": "off",
        "PYTHONPATH": str(HERE.parent.parent),
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.legacy.asking", *names],
        cwd=HERE.parent.parent,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(zip(names, map(json.loads, done.stdout.splitlines()[-len(names) :]), strict=True))


def setting() -> dict[str, str]:
    """What must be equal for results to be equal to the bit."""
    import jax

    return {"jax": jax.__version__, "processor": _processor()}


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if cpus.exists() else []
    about = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wanted = [about[name] for name in ("model name", "cpu family", "model") if name in about]
    return ", ".join([platform.machine(), *wanted])


def columns(inputs: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Inputs as a request has them; files are stored as ``{"base64": ...}``."""
    plain = lambda value: base64.b64decode(value["base64"]) if isinstance(value, dict) else value
    return {name: [plain(value) for value in values] for name, values in inputs.items()}


def about(name: str) -> Path:
    """The file that says what a stored run and bundle are asked, and what they answered."""
    return HERE / f"{name}.json"


def observed(name: str) -> dict[str, Any]:
    """Answers and outputs of a stored run and its bundle, and what the run becomes when it goes on.

    They are unpacked in a temporary folder, which becomes the current one, beside their data, which are written
    anew: the run names its data by a relative path.
    """
    import suite

    given = columns(json.loads(about(name).read_text(encoding="utf-8"))["inputs"])
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        try:
            os.chdir(place)
            WRITERS[name](Path("."))
            with tarfile.open(HERE / f"{name}.tar.xz") as file:
                file.extractall(filter="data")
            found = {}
            for kind in ("run", "bundle"):
                folder = f"{name}/{kind}"
                found[kind] = {**_said(suite.open(folder), given), "by folder": suite.predict(folder, given)}
            resumed = suite.resume(f"{name}/run")
            found["resumed"] = {
                **digest(resumed.variables),
                "metrics": {name: value for name, value in resumed.metrics.items() if "second" not in name},
                "test": resumed.evaluate("test").metrics,
                "answers": resumed.predict(given),
            }
        finally:
            os.chdir(before)
    return found


def _said(opened: Any, given: dict[str, list[Any]]) -> dict[str, Any]:
    """Answers, which round what they show, and outputs, which don't."""
    length = opened.lengths[-1] if opened.lengths else 0
    outputs = opened.outputs(opened.codec.encode(given), length)
    return {
        "answers": opened.predict(given),
        "outputs": {name: _written(np.asarray(outputs[name])) for name in sorted(outputs)},
    }


def _written(array: np.ndarray) -> Any:
    """Nested lists. A float32 is the shortest decimal number that is rounded to it, and to no other."""
    if array.ndim:
        return [_written(part) for part in array]
    return float(str(array)) if array.dtype == np.float32 else array.item()


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Path and array of each leaf of nested dicts, sorted by path."""
    if isinstance(node, Mapping):
        for name in sorted(node, key=str):
            yield from leaves(node[name], f"{path}/{name}" if path else str(name))
    else:
        yield path, np.asarray(node)


def digest(variables: tuple[Any, Any]) -> dict[str, Any]:
    """SHA-256 of parameters and of other variables, and the norm of each array for those who compute otherwise."""
    found: dict[str, Any] = {"norms": {}}
    for kind, tree in zip(("parameters", "rest"), variables, strict=True):
        total = hashlib.sha256()
        for path, array in leaves(tree):
            total.update(f"{path} {array.dtype} {array.shape}\n".encode() + np.ascontiguousarray(array).tobytes())
            found["norms"][f"{kind}/{path}"] = float(np.linalg.norm(array.astype(np.float64).ravel()))
        found[kind] = total.hexdigest()
    return found


if __name__ == "__main__":
    made = [json.dumps(observed(name)) for name in sys.argv[1:]]
    print("\n".join(made))
