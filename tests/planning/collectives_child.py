"""Prints, as JSON, the text of programs compiled for eight devices; test_hlo.py knows what they send."""

import json
import sys
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

n, m = map(int, sys.argv[1:3])
line = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))
grid = jax.make_mesh((4, 2), ("i", "j"), axis_types=(AxisType.Auto,) * 2)
ring = [(k, (k + 1) % 8) for k in range(8)]


def text(function, mesh, given, made):
    matrix = jax.ShapeDtypeStruct((n, m), jnp.float32, sharding=NamedSharding(mesh, given))
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), made, is_leaf=lambda spec: isinstance(spec, P))
    return jax.jit(function, out_shardings=shardings).lower(matrix).compile().as_text()


def mapped(function, made):
    own = jax.shard_map(function, mesh=line, in_specs=P("i"), out_specs=made, check_vma=False)
    return text(own, line, P("i"), made)


def passed(x, times):
    return lax.scan(lambda c, _: (jnp.sin(lax.ppermute(c, "i", ring)), None), x, length=times)[0]


def twice(x):
    return lax.scan(lambda c, _: (passed(c, 3), None), x, length=5)[0]


print(
    json.dumps(
        {
            "fsdp gather": text(lambda x: x * 2, line, P("i"), P()),
            "gather by pairs": text(lambda x: x * 2, grid, P("j"), P()),
            "sum": text(lambda x: x.sum(0), line, P("i"), P()),
            "sum by fours": text(lambda x: x.sum(0), grid, P("i"), P()),
            "sum of two": text(lambda x: (x.sum(0), jnp.square(x).sum()), line, P("i"), (P(), P())),
            "fsdp gradient": text(lambda x: x.T @ x, line, P("i"), P("i")),
            "scatter": mapped(lambda x: lax.psum_scatter(jnp.tile(x, (8, 1)), "i", tiled=True), P("i")),
            "exchange": mapped(lambda x: lax.all_to_all(x, "i", 0, 0, tiled=True), P("i")),
            "pass on": mapped(partial(passed, times=1), P("i")),
            "pass on five times": mapped(partial(passed, times=5), P("i")),
            "pass on three times five times": mapped(twice, P("i")),
        }
    )
)
