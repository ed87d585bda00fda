"""A model's predict as a program that runs elsewhere: for batches of any number of rows, on several platforms.

The weights are arguments of the program, by name; what else it holds are small constants.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import numpy as np

from suite.bundles.manifest import Array, Signature
from suite.bundles.programs import constants
from suite.contracts.batch import Ragged
from suite.contracts.task import Task
from suite.errors import InputError, RunError
from suite.evaluation.evaluate import make_predict
from suite.parallel.layout import Layout
from suite.tree import nest, paths

PLATFORMS = ("cpu", "cuda", "tpu")
"""That programs are for, unless others are named."""
MOST_CONSTANTS = 1 << 20
"""Numbers that a program holds: tables of features and the like. Weights are none."""


def weights_of(params: Mapping[Any, Any], model_state: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    """Parameters and other variables by name, ``"params/encoder/..."``, on the host."""
    leaves = {
        f"{kind}/{name}": leaf
        for kind, tree in (("params", params), ("rest", model_state))
        for name, leaf in paths(tree).items()
    }
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


def named(weights: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The parameters ("params") or the other variables ("rest") among weights, by path."""
    return {name.partition("/")[2]: leaf for name, leaf in weights.items() if name.startswith(f"{kind}/")}


def inputs_of(rows: Mapping[str, Any], buckets: Mapping[str, Sequence[int]] = {}) -> dict[str, Array]:
    """What a program takes for rows that are encoded like these.

    There is a program for each padded length of the default axis. Along other axes all programs have one length, the
    largest of its ``buckets``: a program for each combination would be many.
    """
    taken = {"mask": Array(("b",), "bool")}
    for name, value in rows.items():
        if isinstance(value, Ragged):
            size = value.to or (buckets[value.axis][-1] if value.axis else "length")
            taken[name] = Array(("b", size, *value.values.shape[1:]), str(value.values.dtype))
            taken[f"{name}_mask"] = Array(("b", size), "bool")
        else:
            array = np.asarray(value)
            taken[name] = Array(("b", *array.shape[1:]), str(array.dtype))
    return taken


def batch_of(inputs: Mapping[str, Array], rows: Any, length: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch of ``rows``, a number or a symbol, padded to ``length``."""
    return {name: jax.ShapeDtypeStruct(array.sized(rows, length), array.dtype) for name, array in inputs.items()}


def trace(
    graph: Any,
    task: Task,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Array],
    length: int,
    platforms: Sequence[str] = PLATFORMS,
) -> jax.export.Exported:
    """The task's predict, (weights, batch) -> outputs, for rows of one padded length.

    Args:
        graph: the model without its variables, as `nnx.merge` takes it.
        task: what predicts.
        weights: arrays by name, see `weights_of`; their shapes and types alone count.
        inputs: what a batch is, see `inputs_of`.
        length: that rows are padded to; 0 where they are of one shape.
        platforms: of which devices the program is for.

    Raises:
        ValueError: the model takes no rows of that length.
        RunError: the program would hold more constants than it may.
    """
    predict = make_predict(graph, task, Layout(portable=True))

    def answer(weights: dict[str, jax.Array], batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        variables = nest(weights)
        return predict(variables.get("params", {}), variables.get("rest", {}), batch)

    (rows,) = jax.export.symbolic_shape("b")
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in weights.items()}
    exported = jax.export.export(jax.jit(answer), platforms=platforms)(shapes, batch_of(inputs, rows, length))
    size = constants(exported.mlir_module())
    if size > MOST_CONSTANTS:
        raise RunError(
            f"the program for rows of length {length} holds {size:,} numbers, and may hold "
            f"{MOST_CONSTANTS:,}: weights, or tables as large, that are no variables of the model"
        )
    return exported


def trace_all(
    graph: Any,
    task: Task,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Array],
    lengths: Sequence[int],
    platforms: Sequence[str] = PLATFORMS,
) -> dict[int, jax.export.Exported]:
    """A program for each length. The last one is left out where the model takes no rows as long.

    Raises:
        InputError: a program cannot be made.
    """
    made: dict[int, jax.export.Exported] = {}
    for length in lengths:
        try:
            made[length] = trace(graph, task, weights, inputs, length, platforms)
        except ValueError as error:
            if isinstance(error, InputError) or length != lengths[-1] or not made:
                raise
    return made


def signature(inputs: Mapping[str, Array], programs: Mapping[int, jax.export.Exported]) -> Signature:
    """What programs of several lengths take and give."""
    found = [jax.tree.unflatten(each.out_tree, each.out_avals) for each in programs.values()]
    outputs = {}
    for name, first in found[0].items():
        sides = zip(*(each[name].shape for each in found), strict=True)
        shape = tuple(_side(side) for side in sides)
        outputs[name] = Array(shape, str(first.dtype))
    return Signature(dict(inputs), outputs)


def _side(found: tuple[Any, ...]) -> int | str | None:
    if jax.export.is_symbolic_dim(found[0]):
        return "b"
    return int(found[0]) if len(set(found)) == 1 else None
