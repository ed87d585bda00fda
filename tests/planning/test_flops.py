"""Operations of functions that can be counted by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from suite.planning import flops

B, N, M = 8, 16, 32
PRODUCT = 2 * B * N * M


def counted(function, *shapes):
    return flops.count(jax.jit(function).trace(*[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]))


def layer(w, x):
    return jnp.sin(x @ w)


def test_a_product_and_its_gradient():
    assert counted(layer, (N, M), (B, N)) == flops.Flops(PRODUCT, 0)
    gradient = jax.grad(lambda w, x: layer(w, x).sum(), argnums=(0, 1))
    assert counted(gradient, (N, M), (B, N)).all == 3 * PRODUCT


def test_what_no_result_needs_is_left_out():
    """As the gradient of a frozen parameter."""
    gradient = jax.grad(lambda w, x: layer(w, x).sum(), argnums=(0, 1))
    assert counted(lambda w, x: gradient(w, x)[1], (N, M), (B, N)).all == 2 * PRODUCT


def test_a_scan_counts_as_often_as_it_runs():
    scanned = lambda w, x: lax.scan(lambda c, _: (jnp.sin(c @ w), None), x, length=7)[0]
    assert counted(scanned, (N, N), (B, N)).all == 7 * 2 * B * N * N
    assert counted(jax.grad(lambda w, x: scanned(w, x).sum()), (N, N), (B, N)).all == 3 * 7 * 2 * B * N * N


@pytest.mark.parametrize("scan", [False, True])
def test_what_is_computed_again_is_no_work_of_the_model(scan):
    block = jax.checkpoint(lambda w, x: jnp.sin(jnp.sin(x @ w) @ w))

    def loss(w, x):
        if scan:
            return lax.scan(lambda c, _: (block(w, c), None), x, length=3)[0].sum()
        return block(w, block(w, block(w, x))).sum()

    one = 2 * B * N * N
    found = counted(jax.value_and_grad(loss), (N, N), (B, N))
    plain = 3 * 6 * one - (0 if scan else one)  # outside a scan nobody asks for the gradient of the first input
    assert found.model == plain
    assert found.again == 6 * one  # the derivative of a sine needs what it was taken of


def test_the_branch_with_the_most_work_counts():
    branched = lambda w, x: lax.cond(x[0, 0] > 0, lambda: x @ w @ w.T, lambda: x)
    assert counted(branched, (N, M), (B, N)).all == 2 * PRODUCT


def test_a_mapped_program_runs_on_each_device():
    """Over the axis it is mapped over; pmap is one as well."""
    # As the suite's meshes are; jax 0.12 takes axes without a type for explicit ones.
    types = (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Auto)
    mesh = jax.sharding.AbstractMesh((4, 2), ("i", "j"), axis_types=types)
    rows = jax.sharding.PartitionSpec("i")
    mapped = jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=rows, out_specs=rows, axis_names={"i"})
    assert counted(mapped, (4 * B, N)).all == 4 * 2 * B * B * N
    assert counted(lambda x: jax.pmap(lambda x: x @ x.T)(x), (1, B, N)).all == 2 * B * B * N


def test_convolutions():
    """A kernel of 3 x 3 over 16 channels, in two groups, with a stride; the gradient by the input dilates by it."""

    def conv(x, k):
        return lax.conv_general_dilated(
            x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )

    outputs = B * 5 * 5 * M
    forward = 2 * outputs * 9 * 16 / 2
    assert counted(conv, (B, 10, 10, 16), (3, 3, 8, M)).all == forward
    gradient = jax.grad(lambda x, k: jnp.square(conv(x, k)).sum(), argnums=(0, 1))
    assert counted(gradient, (B, 10, 10, 16), (3, 3, 8, M)).all == 3 * forward
