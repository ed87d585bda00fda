"""Fine-tuning of part of a model: low-rank additions (LoRA), adapters, or the head alone.

Whatever is not trained holds no optimiser state and costs no gradient. A checkpoint of such a run still holds the
whole model, so that the run stays usable when the weights it began with move or change; the trained part alone is
what `write_delta` writes and `read_delta` puts back onto the same weights.
"""

import dataclasses
import hashlib
import json
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from suite.errors import InputError, closest
from suite.experiment.sections import Checkpoint, Finetune, Optim
from suite.nn.linear import Linear
from suite.nn.lora import Bottleneck, LowRank, training
from suite.parallel import hosts
from suite.runtime import json_files
from suite.runtime.files import write_text
from suite.surgery.freezing import frozen_paths
from suite.tree import nest, paths

__all__ = ["attach", "base", "fold", "freeze", "read_delta", "training", "with_additions", "write_delta"]

_log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nnx.Module)

TARGETS = {"lora": (r"(query|value)$",), "adapters": (r"attention/out$", r"mlp/down$")}
"""Default of ``finetune.targets``, as in the papers of the two."""
TENSORS, ABOUT = "delta.safetensors", "delta.json"
"""The files of a delta."""

_ADDITION = "/addition/"


def attach(model: Model, finetune: Finetune, rngs: nnx.Rngs) -> Model:
    """The model with additions on the linear layers that ``finetune.targets`` match; itself for full and head.

    Raises:
        InputError: a value is out of range, or a pattern of ``targets`` matches no linear layer.
    """
    if finetune.kind not in TARGETS:
        return model
    _check(finetune)
    linears = {
        "/".join(map(str, path)): module for path, module in nnx.iter_modules(model) if isinstance(module, Linear)
    }
    for path in sorted(_targets(finetune, list(linears))):
        kernel = linears[path].kernel[...]
        common: dict[str, Any] = {"dropout": finetune.dropout, "path": path, "rngs": rngs}
        if finetune.kind == "lora":
            linears[path].addition = LowRank(kernel, finetune.rank, alpha=finetune.alpha, **common)
        else:
            linears[path].addition = Bottleneck(kernel, finetune.rank, **common)
    return model


def _check(finetune: Finetune) -> None:
    if finetune.rank < 1:
        rank = str(finetune.rank)
        raise InputError("field finetune.rank", "must be at least 1.", found=rank, fix="--finetune.rank 8")
    if not finetune.alpha > 0:
        raise InputError("field finetune.alpha", "must be above 0.", found=str(finetune.alpha))
    if not 0 <= finetune.dropout < 1:
        raise InputError("field finetune.dropout", "must be at least 0 and below 1.", found=str(finetune.dropout))


def _targets(finetune: Finetune, names: list[str]) -> set[str]:
    """Linear layers that get additions: those that the patterns match and that are not trained themselves."""
    patterns = finetune.targets or TARGETS[finetune.kind]
    for pattern in patterns:
        if not any(_search("targets", pattern, name) for name in names):
            _no_match("targets", [pattern], names, "linear layer")
    free = [
        name for name in names if not any(_search("trained", pattern, f"{name}/kernel") for pattern in finetune.trained)
    ]
    return {name for name in free if any(re.search(pattern, name) for pattern in patterns)}


def _search(field: str, pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise InputError(f"field finetune.{field}", f"not a regular expression: {error}.", found=pattern) from None


def _no_match(field: str, patterns: Sequence[str], names: list[str], what: str) -> None:
    pattern = " | ".join(patterns)
    words = {word for name in names for word in name.split("/") if not word.isdecimal()}
    near = closest(pattern.strip("^$"), names) or closest(pattern.strip("^$"), sorted(words))
    # Of a model of parts, paths begin with the part's name.
    within = [other.replace("^", "/", 1) for other in patterns if other.startswith("^")]
    near = next((other for other in within if any(re.search(other, name) for name in names)), near)
    raise InputError(
        f"field finetune.{field}",
        f'"{pattern}" matches no {what}.',
        found=", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else ""),
        fix=f"--finetune.{field} {shlex.quote(near)}" if near else "",
    )


def freeze(optim: Optim, finetune: Finetune, params: Mapping[Any, Any]) -> Optim:
    """``optim`` with ``frozen`` extended to all that ``finetune`` leaves alone.

    What ``optim.frozen`` names stays frozen, but for additions: they are there to be trained.

    Raises:
        InputError: nothing would be trained, or ``finetune.trained`` was set and matches nothing.
    """
    if finetune.kind == "full":
        return optim
    names = list(paths(params))
    chosen = [name for name in names if any(_search("trained", pattern, name) for pattern in finetune.trained)]
    asked = finetune.trained != Finetune().trained  # a model without a head of its own, as GPT-2, has additions alone
    if finetune.trained and not chosen and (asked or finetune.kind == "head"):
        _no_match("trained", finetune.trained, names, "parameter")
    still = frozen_paths(optim, params)
    trained = [name for name in names if _ADDITION in name or (name in chosen and name not in still)]
    if not trained:
        raise InputError(
            "field finetune.trained", "names nothing, so nothing would be trained.", fix='--finetune.trained "^head"'
        )
    # One pattern for all the others: hundreds of them would be tried on hundreds of paths.
    others = rf"^(?!(?:{'|'.join(map(re.escape, trained))})$)"
    return dataclasses.replace(optim, frozen=(others,) if len(trained) < len(names) else ())


def base(params: Mapping[Any, Any]) -> dict[Any, Any]:
    """The parameters without additions: those of the model as its family builds it."""
    return nest({name: leaf for name, leaf in paths(params).items() if _ADDITION not in name})


def with_additions(base_params: Mapping[Any, Any], params: Mapping[Any, Any]) -> dict[Any, Any]:
    """``found``, the parameters of a model without additions, with the additions that ``params`` has."""
    added = {name: leaf for name, leaf in paths(params).items() if _ADDITION in name}
    return nest({**paths(base_params), **added})


def fold(params: Mapping[Any, Any], finetune: Finetune) -> dict[Any, Any]:
    """The parameters of a model without additions that answers the same: each low-rank product is in its kernel.

    Raises:
        InputError: adapters, which no matrix can stand for.
    """
    flat = paths(params)
    if finetune.kind == "adapters":
        raise InputError(
            "field finetune.kind",
            "adapters are not linear: they cannot be folded into the model.",
            fix="write what was trained alone, with --delta, or fine-tune with --finetune lora",
        )
    for name in [name for name in flat if name.endswith("/addition/a")]:
        layer = name.removesuffix("/addition/a")
        a, b = flat.pop(name), flat.pop(f"{layer}/addition/b")
        change = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST) * (finetune.alpha / finetune.rank)
        flat[f"{layer}/kernel"] = flat[f"{layer}/kernel"] + change
    return nest(flat)


def write_delta(
    params: Mapping[Any, Any],
    model_state: Mapping[Any, Any],
    finetune: Finetune,
    optim: Optim,
    checkpoint: Checkpoint,
    folder: Path,
) -> None:
    """What training changed, alone: ``delta.safetensors`` by our paths, ``delta.json`` saying what it goes onto.

    Args:
        params: the trained model's parameters, additions and all.
        model_state: its other variables (running statistics), which training changes too.
        finetune: how it was trained.
        optim: what was frozen besides.
        checkpoint: what training began with.
        folder: made if missing.
    """
    from safetensors.numpy import save_file

    frozen = frozen_paths(freeze(optim, finetune, params), params)
    untrained = {name: leaf for name, leaf in paths(params).items() if name in frozen}
    tensors = {name: leaf for name, leaf in paths(params).items() if name not in frozen}
    tensors |= {f"rest/{name}": leaf for name, leaf in paths(model_state).items()}
    about = {
        "format": "suite delta 1",
        "base": checkpoint.init_from,
        "base_tensors": _fingerprints(untrained),
        **dataclasses.asdict(finetune),
        "apply": "put every tensor in its place in the base's parameters, by path; "
        "a layer's addition a, b adds alpha / rank * a @ b to its kernel",
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(leaf) for name, leaf in tensors.items()}, folder / TENSORS)
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")


def read_delta(
    params: Mapping[Any, Any],
    model_state: Mapping[Any, Any],
    finetune: Finetune,
    folder: str | Path,
    start: str | Mapping[str, str] = "",
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """(params, model_state) with the tensors of a delta in their places. ``params`` has the additions, see `attach`.

    Args:
        params, model_state: of the base that training starts from.
        finetune: how the delta is to be used.
        folder: the delta.
        start: the base's name, for people.

    Raises:
        InputError: no delta is there, it was trained in another way or on another base, or a tensor has no place or
            another shape.
    """
    folder = Path(folder).expanduser()
    if not ((folder / TENSORS).is_file() and (folder / ABOUT).is_file()):
        inside = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else ""
        raise InputError(
            "field finetune.delta",
            f'"{folder}" is not what suite convert --delta writes.',
            found=inside or "nothing",
            fix=f"a folder with {TENSORS} and {ABOUT}",
        )
    about = _about(folder)
    _check_same(finetune, about)
    _check_base(paths(params), about, folder, start)
    flat = {**paths(params), **{f"rest/{name}": leaf for name, leaf in paths(model_state).items()}}
    for name, tensor in _tensors(folder / TENSORS).items():
        if name not in flat or flat[name].shape != tensor.shape:
            shapes = f"{tensor.shape}; the model: {flat[name].shape if name in flat else 'no such parameter'}"
            raise InputError(
                str(folder / TENSORS),
                f"{name} does not fit the model.",
                found=shapes,
                fix="the recipe it was trained by",
            )
        flat[name] = jax.device_put(tensor.astype(flat[name].dtype), flat[name].sharding)
    others = {name.removeprefix("rest/"): leaf for name, leaf in flat.items() if name.startswith("rest/")}
    return nest({name: leaf for name, leaf in flat.items() if not name.startswith("rest/")}), nest(others)


def _fingerprints(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Path -> the first 64 bits of the SHA-256 of a tensor's values as float32, whatever folder they came from."""
    hashes = {}
    for name in sorted(tensors):
        values = np.ascontiguousarray(hosts.fetched(tensors[name]), np.float32)
        hashes[name] = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    return hashes


def _check_base(params: Mapping[str, Any], about: Mapping[str, Any], folder: Path, start: Any) -> None:
    """InputError where the tensors that the delta left alone are not those that the model begins with."""
    wanted, base_name = about.get("base_tensors"), about.get("base") or "unknown weights"
    if not isinstance(wanted, dict):
        if about.get("kind") != "full":
            _log.warning(
                "%s: was written before deltas held fingerprints of their base (%s): not checked against %s",
                folder,
                base_name,
                start or "these weights",
            )
        return
    there = _fingerprints({name: params[name] for name in wanted if name in params})
    other = [name for name, value in wanted.items() if there.get(name, value) != value]
    if other:
        shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        raise InputError(
            "field finetune.delta",
            f'"{folder}" was trained on "{base_name}", and means nothing on "{start}": its tensors are others.',
            found=f"{len(other)} of {len(wanted)} differ: {shown}",
            fix=f"--checkpoint.init_from {shlex.quote(str(base_name))}"
            if isinstance(base_name, str)
            else "its own base",
        )


def _tensors(file: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise InputError(str(file), f"is damaged: {error}", fix="write it again: suite convert RUN --delta") from None


def _about(folder: Path) -> dict[str, Any]:
    """What ``delta.json`` says."""
    return json_files.read_object(folder / ABOUT, "write it again: suite convert RUN --delta")


def _check_same(finetune: Finetune, about: Mapping[str, Any]) -> None:
    names = ("kind", "rank", "alpha") if finetune.kind == "lora" else ("kind", "rank")
    for name in names if finetune.kind in TARGETS else ("kind",):
        stored, asked = about.get(name), getattr(finetune, name)
        if stored != asked:
            raise InputError(
                f"field finetune.{name}",
                f"is {asked}, but the delta was trained with {stored}.",
                fix=f"--finetune.{name} {shlex.quote(str(stored))}",
            )
