"""Answers of other libraries' models on weights that anyone can make again.

Weights are not stored: each tensor is drawn from a generator seeded by its own name, so a golden file holds only the
published config, names and shapes, a small input and what the peer made of it (outputs, and gradients of a scalar of
them). ``peers_<family>.py`` makes them from the peer's own code (CASES: name -> function), ``test_<family>.py``
compares with ours: always with the stored file, and live where the marker ``peers`` is selected.

    python -m tests.parity.golden [name ...]     makes the stored files anew; needs the extra "peers"
"""

import importlib
import importlib.machinery
import importlib.util
import json
import pkgutil
import re
import sys
import types
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "golden"
_KEPT: list[Any] = []
"""A library of operators lives as long as it is held."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One case.

    Attributes:
        config: what the published config.json says.
        shapes: published tensor name -> shape, of every float tensor of the model's state.
        inputs: name -> array, the peer's inputs.
        outputs: name -> array the peer computed, in evaluation mode.
        grads: published tensor name -> gradient of the scalar that ``peers_<family>.py`` documents; a few tensors.
    """

    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    grads: dict[str, np.ndarray] = field(default_factory=dict)


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 weights of the tensor ``name``: of a size that keeps activations near 1, norms near the identity."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "weight_g", "parametrizations.weight.original0")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    values = rng.standard_normal(shape)
    if len(shape) < 2:
        offset = 1.0 if name.endswith(("weight", "gamma", "scale")) else 0.0
        return np.asarray(offset + 0.1 * values, np.float32)
    fan_in = int(np.prod(shape[1:]))
    return (values * min(0.5, fan_in**-0.5)).astype(np.float32)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Every tensor of a case."""
    return {name: draw(name, tuple(shape)) for name, shape in shapes.items()}


def into(model: Any) -> dict[str, tuple[int, ...]]:
    """Fill a PyTorch model with the weights of its names; returns the shapes. Tied tensors are stored once."""
    import torch

    state = model.state_dict()
    stored: dict[int, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    with torch.no_grad():
        for name, tensor in state.items():
            if not tensor.is_floating_point() or tensor.data_ptr() in stored:
                continue
            stored[tensor.data_ptr()] = name
            shapes[name] = tuple(tensor.shape)
            tensor.copy_(torch.from_numpy(draw(name, shapes[name])))
    model.eval()
    return shapes


def folder(case: Golden, path: Path) -> Path:
    """The case as a published folder: config.json and model.safetensors."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(case.config))
    save_file(weights(case.shapes), path / "model.safetensors", metadata={"format": "pt"})
    return path


def store(name: str, case: Golden) -> None:
    """Write the file of a case."""
    arrays = {
        f"{part}/{key}": value for part in ("inputs", "outputs", "grads") for key, value in getattr(case, part).items()
    }
    about = json.dumps({"config": case.config, "shapes": case.shapes})
    np.savez_compressed(FOLDER / f"{name}.npz", about=np.frombuffer(about.encode(), np.uint8), **arrays)


def load(name: str) -> Golden:
    """Read the file of a case."""
    with np.load(FOLDER / f"{name}.npz") as file:
        about = json.loads(bytes(file["about"]))
        parts = {
            part: {key.split("/", 1)[1]: file[key] for key in file.files if key.startswith(part + "/")}
            for part in ("inputs", "outputs", "grads")
        }
    shapes = {key: tuple(shape) for key, shape in about["shapes"].items()}
    return Golden(config=about["config"], shapes=shapes, **parts)


def mend_torch() -> None:
    """Let torchvision and torchaudio be imported where their compiled parts don't load, beside another PyTorch build.

    No model calls those parts, but transformers imports both packages where it finds them.
    """
    _mend("torchvision", _name_operators)
    _mend("torchaudio", _without_extension)


def _mend(package: str, mend: Callable[[Path], None]) -> None:
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    if spec is None:
        return
    try:
        importlib.import_module(package)
    except (RuntimeError, OSError):
        mend(Path(str(spec.origin)).parent)
        importlib.import_module(package)


def _name_operators(package: Path) -> None:
    """torchvision asks that its operators have names."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    text = (package / "_meta_registrations.py").read_text()
    for name in sorted(set(re.findall(r"torchvision::(\w+)|register_meta\(\"(\w+)\"", text))):
        library.define(f"{''.join(name)}(Tensor x) -> Tensor")
    _KEPT.append(library)


def _without_extension(package: Path) -> None:
    """torchaudio asks its extension what it can do."""
    for name in ("torchaudio._extension", "torchaudio.lib", "torchaudio.lib._torchaudio"):
        module: Any = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.fail_if_no_align = lambda function: function
        module._IS_RIR_AVAILABLE = module._IS_ALIGN_AVAILABLE = module._IS_TORCHAUDIO_EXT_AVAILABLE = False
        sys.modules.setdefault(name, module)


def cases() -> dict[str, Any]:
    """Name -> function that makes the case with the peer's code."""
    mend_torch()
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("peers_"):
            found |= importlib.import_module(f"tests.parity.{module.name}").CASES
    return found


if __name__ == "__main__":
    for case_name, make in cases().items():
        if not sys.argv[1:] or case_name in sys.argv[1:]:
            store(case_name, make())
            print(case_name, (FOLDER / f"{case_name}.npz").stat().st_size)
