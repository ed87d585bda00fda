"""A task's functions as programs that run elsewhere: for batches of any number of rows, on several platforms.

Weights and reference arrays are arguments of the program, by name; what else it holds are small constants.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from suite.bundles.manifest import SEED, Array, Signature
from suite.bundles.programs import constants
from suite.contracts.batch import Ragged
from suite.errors import InputError, RunError
from suite.evaluation.evaluate import make_answer
from suite.parallel.layout import Layout
from suite.tree import nest, paths

PLATFORMS = ("cpu", "cuda", "tpu")
"""That programs are for, unless others are named."""
Function = Callable[..., dict[str, jax.Array]]
"""(model, batch, reference) -> outputs."""
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
    function: Function,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Array],
    length: int,
    platforms: Sequence[str] = PLATFORMS,
    reference: Mapping[str, Any] | None = None,
    replaceable: bool = False,
) -> jax.export.Exported:
    """A program's function, (weights, batch[, reference]) -> outputs, for rows of one padded length.

    Args:
        graph: the model without its variables, as `nnx.merge` takes it.
        function: of a `suite.contracts.task.Program`.
        weights: arrays by name, see `weights_of`; their shapes and types alone count.
        inputs: what a batch is, see `inputs_of`. Where ``seed`` is none of them, the function is given zeros.
        length: that rows are padded to; 0 where they are of one shape.
        platforms: of which devices the program is for.
        reference: arrays by name, as weights; None where the task has none.
        replaceable: whether the program takes any number of reference records.

    Raises:
        ValueError: the model takes no rows of that length.
        RunError: the program would hold more constants than it may.
    """
    rows, records = jax.export.symbolic_shape("b, n")
    batch = batch_of(inputs, rows, length)
    answer, arguments = answering(graph, function), _arguments(weights, batch, reference, records if replaceable else 0)
    with _nameless():
        exported = jax.export.export(jax.jit(answer), platforms=platforms)(*arguments)
    size = constants(exported.mlir_module())
    if size > MOST_CONSTANTS:
        raise RunError(
            f"the program for rows of length {length} holds {size:,} numbers, and may hold "
            f"{MOST_CONSTANTS:,}: weights, or tables as large, that are no variables of the model"
        )
    return exported


def answering(graph: Any, function: Function) -> Callable[..., dict[str, jax.Array]]:
    """(weights by name, batch[, reference arrays by name]) -> outputs, in the forms that every device has."""
    predict = make_answer(graph, function, Layout(portable=True))

    def answer(weights: dict[str, Any], batch: dict[str, Any], *reference: dict[str, Any]) -> dict[str, jax.Array]:
        variables = nest(weights)
        batch = {SEED: jnp.zeros(batch["mask"].shape, jnp.uint32), **batch}
        return predict(variables.get("params", {}), variables.get("rest", {}), batch, *reference)

    return answer


def _arguments(
    weights: Mapping[str, Any],
    batch: dict[str, jax.ShapeDtypeStruct],
    reference: Mapping[str, Any] | None,
    records: Any = 0,
) -> tuple[dict[str, jax.ShapeDtypeStruct], ...]:
    """What a program is called with, as shapes. A task without reference records has programs of two arguments;
    ``records`` is how many they are, a number or a symbol; 0: as many as there are."""
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in weights.items()}
    if reference is None:
        return shapes, batch
    return (
        shapes,
        batch,
        {
            name: jax.ShapeDtypeStruct((records or leaf.shape[0], *leaf.shape[1:]), leaf.dtype)
            for name, leaf in reference.items()
        },
    )


@contextlib.contextmanager
def _nameless() -> Iterator[None]:
    """Programs that are traced here name no file of the source: a bundle doesn't tell where it was made."""
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def draws(
    graph: Any,
    function: Function,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Array],
    length: int,
    reference: Mapping[str, Any] | None = None,
) -> bool:
    """Whether the outputs depend on the rows' seeds; arguments as of `trace`."""
    batch = batch_of({**inputs, SEED: Array(("b",), "uint32")}, 2, length)
    arguments = _arguments(weights, batch, reference)
    traced = jax.make_jaxpr(answering(graph, function))(*arguments)
    _, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    places = jax.tree.unflatten(jax.tree.structure(arguments), used)
    return bool(places[1][SEED])


@dataclass(frozen=True)
class Traced:
    """A program for each padded length.

    Attributes:
        inputs: what a batch is, with ``seed`` where the outputs depend on it.
        by_length: padded length -> the program for it.
    """

    inputs: dict[str, Array]
    by_length: dict[int, jax.export.Exported]

    @property
    def signature(self) -> Signature:
        """What the programs take and give."""
        results = [jax.tree.unflatten(exported.out_tree, exported.out_avals) for exported in self.by_length.values()]
        outputs = {}
        for name, first in results[0].items():
            sides = zip(*(result[name].shape for result in results), strict=True)
            shape = tuple(_side(side) for side in sides)
            outputs[name] = Array(shape, str(first.dtype))
        return Signature(dict(self.inputs), outputs)


def trace_all(
    graph: Any,
    function: Function,
    weights: Mapping[str, Any],
    inputs: Mapping[str, Array],
    lengths: Sequence[int],
    platforms: Sequence[str] = PLATFORMS,
    reference: Mapping[str, Any] | None = None,
    replaceable: bool = False,
) -> Traced:
    """A program for each length; arguments as of `trace`. The last one is left out where the model takes no rows as
    long.

    Raises:
        InputError: a program cannot be made.
    """
    inputs = {name: array for name, array in inputs.items() if name != SEED}
    if draws(graph, function, weights, inputs, lengths[0], reference):
        inputs[SEED] = Array(("b",), "uint32")
    by_length: dict[int, jax.export.Exported] = {}
    for length in lengths:
        try:
            by_length[length] = trace(graph, function, weights, inputs, length, platforms, reference, replaceable)
        except ValueError as error:
            if isinstance(error, InputError) or length != lengths[-1] or not by_length:
                raise
    return Traced(inputs, by_length)


def _side(sizes: tuple[Any, ...]) -> int | str | None:
    if jax.export.is_symbolic_dim(sizes[0]):
        return "b" if str(sizes[0]) == "b" else None
    return int(sizes[0]) if len(set(sizes)) == 1 else None
