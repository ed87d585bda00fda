"""How a step is spread over devices, as far as layers must know.

Under the jitted engine a layer sees whole arrays, which XLA spreads by itself; layers only pin activations at the edges
of blocks (`edge`). Under pmap a layer sees the rows of its own device: what is counted over a batch is summed over the
devices (`batch_sum`), and what is drawn for a row depends on its place in the whole batch (`for_rows`). The trainer
says which while it traces a step (`laid_out`); where nobody does, there is one device.

Dims: b rows of the batch that the layer sees.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from suite.parallel.target import platform_of

ROWS = ("data", "fsdp")
"""Mesh axes over which the rows of a batch are spread."""


@dataclass(frozen=True)
class Layout:
    """Where a step runs.

    Attributes:
        mesh: the mesh of the jitted engine; None for one device, and inside pmap.
        sequence: between blocks, activations (b, t, d) are split along t over the mesh axis ``tensor``.
        axis: inside pmap, the name of its axis.
        portable: what is traced will run elsewhere too: nothing is chosen by the devices that are here.
        platform: of the devices that it will run on (`suite.parallel.target.platform_of`); empty: those that are here.
    """

    mesh: Mesh | None = None
    sequence: bool = False
    axis: str | None = None
    portable: bool = False
    platform: str = ""


_ONE_DEVICE = Layout()
_LAYOUT: ContextVar[Layout] = ContextVar("layout", default=_ONE_DEVICE)


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """What is traced inside knows ``layout``."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


def edge(x: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """``x`` between two blocks: its rows are spread like the batch, the rest is whole on each device, or, with
    ``sequence``, split along the second axis of three. What the devices do not divide is left alone.

    Where blocks meet is where the choice matters: left to itself, the compiler may carry the split of one block's
    matrices into the next. It must stand between any two matrices that are both split (fsdp, tensor): of
    ``relu(x @ v) @ w``, rows of x split over data and fsdp, jaxlib 0.10 computes a wrong gradient by v without it.
    Splitting along time lets norms, dropout and residuals be done once instead of on every device that shares a matrix
    (`Korthikanti et al., 2022 <https://arxiv.org/abs/2205.05198>`_).
    """
    layout = _LAYOUT.get()
    if layout.mesh is None:
        return x
    sizes = layout.mesh.shape
    rows = ROWS if x.shape[0] % (sizes["data"] * sizes["fsdp"]) == 0 else None
    split = layout.sequence and x.ndim == 3 and x.shape[1] % sizes["tensor"] == 0
    spec = P(rows, "tensor") if split else P(rows)
    return lax.with_sharding_constraint(x, NamedSharding(layout.mesh, spec))


def portable() -> bool:
    """Whether what is traced will run on other devices than those that are here."""
    return _LAYOUT.get().portable


def target_platform() -> str | None:
    """The platform that what is traced will run on; None where it will run on several."""
    layout = _LAYOUT.get()
    return None if layout.portable else layout.platform or platform_of(jax.devices()[0])


def on_mesh() -> bool:
    """Whether what is traced is spread over several devices by XLA itself."""
    return _LAYOUT.get().mesh is not None


def only_here() -> bool:
    """Whether what is traced will run on one device of this process, and nowhere else."""
    layout = _LAYOUT.get()
    return layout.platform in ("", platform_of(jax.devices()[0])) and replace(layout, platform="") == _ONE_DEVICE


def batch_sum(tree: Any) -> Any:
    """Sums over the rows that a layer sees -> sums over the whole batch."""
    axis = _LAYOUT.get().axis
    return tree if axis is None else lax.psum(tree, axis)


def batch_rows(tree: Any) -> Any:
    """Arrays (b, ...) of the rows that a layer sees -> those of all rows, in their order."""
    axis = _LAYOUT.get().axis
    return tree if axis is None else lax.all_gather(tree, axis, tiled=True)


def everywhere(tree: Any) -> Any:
    """Arrays (b, ...) of the rows that a layer sees -> those of all rows, whole on each device under either engine."""
    layout = _LAYOUT.get()
    if layout.mesh is None:
        return batch_rows(tree)
    whole = NamedSharding(layout.mesh, P())
    return jax.tree.map(lambda a: lax.with_sharding_constraint(a, whole), tree)


def share(count: Array) -> Array | float:
    """The part that ``count`` has in its sum over the whole batch, by which a mean over these rows enters the mean."""
    if _LAYOUT.get().axis is None:
        return 1.0
    return lax.stop_gradient(count / jnp.maximum(batch_sum(count), 1))


def replicas() -> int:
    """Devices of which each sees other rows of the batch, 1 where a layer sees all."""
    axis = _LAYOUT.get().axis
    return 1 if axis is None else lax.axis_size(axis)


def first_row(rows: int) -> Array | int:
    """Place in the whole batch of the first of the ``rows`` that a layer sees."""
    axis = _LAYOUT.get().axis
    return 0 if axis is None else lax.axis_index(axis) * rows


def for_rows(draw: Callable[[tuple[int, ...]], Array], shape: tuple[int, ...]) -> Array:
    """``draw`` of the shape of the whole batch, and of that the rows of ``shape`` (b, ...) that a layer sees."""
    if _LAYOUT.get().axis is None:
        return draw(shape)
    whole = draw((replicas() * shape[0], *shape[1:]))
    return lax.dynamic_slice_in_dim(whole, first_row(shape[0]), shape[0])


@contextmanager
def alone() -> Iterator[None]:
    """What is traced inside takes the rows that it sees for the whole batch, as a loss of one record must.

    No form of a layer is chosen there that only one device can run, or that cannot be mapped over records.
    """
    with laid_out(Layout(portable=True)):
        yield
