"""Grad-CAM: where the features of the last block before pooling speak for the answer.

`Selvaraju et al., 2016, arXiv 1610.02391`; its values are coarse, and never negative.
"""

from typing import Any

import jax
import numpy as np
from flax import nnx

from suite.contracts.division import fitted, summed
from suite.errors import InputError
from suite.explaining.entries import shapes_of
from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import Explanation
from suite.nn.hooks import hooks

FIX = "--method integrated-gradients"


def gradcam(explainer: Explainer, case: Case) -> Explanation:
    """The map, scaled up to the picture, or spread over the bands of the recording.

    Raises:
        InputError: the model has no map of features, or is given neither a picture nor a recording.
    """
    name, dims = _seen(case)
    path = last_map(explainer, case, dims)
    cam = explainer.inside(case, "gradcam", path)["cam"].astype(np.float64)
    if dims == 4:
        labels = case.labels[name][..., 0]
        values = _enlarged(cam, labels.shape) / labels.size
    else:
        grid = case.division.labels[name]
        labels = fitted(grid, (len(cam), grid.shape[1]), float(case.batch[f"{name}_mask"].mean()))
        values = np.broadcast_to(cam[:, None], labels.shape) / labels.size
    sums = summed(values, labels, case.count)
    remarks: tuple[str, ...] = (f"of the output of {path}",)
    if not sums.any():
        remarks = (*remarks, "nothing in the map speaks for the answer")
    return Explanation(
        "gradcam", case.subject, case.division, sums, additive=False, maps={name: values}, remarks=remarks
    )


def _seen(case: Case) -> tuple[str, int]:
    """The array that is mapped, and the axes of a map of it: (b, h, w, c), or (b, t, c)."""
    for name, labels in case.labels.items():
        if name in case.division.scaled:
            return name, 3
        if labels.ndim == 3 and case.division.shapes:
            return name, 4
    raise InputError("method gradcam", "is for pictures and recordings.", fix=FIX)


def last_map(explainer: Explainer, case: Case, dims: int) -> str:
    """Path of the module that gives out the last map of features of several places.

    Raises:
        InputError: there is none.
    """
    task, graph = explainer.run.experiment.task, explainer.run.graph
    noted: list[tuple[str, tuple[int, ...]]] = []

    def traced(params: Any, state: Any, rows: Any) -> int:
        model = nnx.merge(graph, params, state)
        modules = {"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)}
        callable_ = [path for path, module in modules.items() if path and callable(module)]
        scanned = any(getattr(module, "scan_layers", False) for module in modules.values())
        if scanned:
            raise InputError("method gradcam", "layers that are scanned cannot be looked into.", fix=FIX)

        def noting(path: str) -> Any:
            def note(inputs: Any, named: Any) -> Any:
                order.append(path)
                return inputs, named

            return note

        order: list[str] = []
        with hooks(model, callable_, feed={path: noting(path) for path in callable_}) as calls:
            task.explained(model, rows)
        noted.extend((path, calls[path][-1].output.shape) for path in order if hasattr(calls[path][-1].output, "shape"))
        return 0

    jax.eval_shape(traced, *explainer.weights, shapes_of(case.batch))
    # A block begins before what is in it and gives out last: of equal maps, the one that began first is the block.
    maps = [(path, shape) for path, shape in noted if len(shape) == dims and np.prod(shape[1:-1]) > 1]
    if not maps:
        raise InputError("method gradcam", "the model has no map of features before it pools.", fix=FIX)
    last = maps[-1][0]
    parents = [path for path, shape in maps if last.startswith(f"{path}/") and shape == maps[-1][1]]
    return parents[0] if parents else last


def _enlarged(cam: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The map at every pixel, between its cells along straight lines."""
    for axis, size in enumerate(shape):
        own = cam.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * own / size - 0.5, 0, own - 1)
        low = np.floor(places).astype(int)
        share = (places - low).reshape(-1, *(1 for _ in range(cam.ndim - axis - 1)))
        cam = np.take(cam, low, axis) * (1 - share) + np.take(cam, np.minimum(low + 1, own - 1), axis) * share
    return cam
