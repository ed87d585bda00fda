"""StableHLO with anything changed: read, refused in words, or the end of the process that tries it."""

import jax
import jax.export
import jax.numpy as jnp
import pytest

from tests.fuzz.mutations import mutated
from tests.fuzz.opening import Opener

TELLING = (b"ML\xefR", b"\x00", b"\x01", b"\x03", b"\x05", b"\x7f", b"\x80", b"\xfe", b"\xff", b"\xff" * 8)
"""Of bytecode: its head, and variable-length numbers."""


@pytest.fixture(scope="module")
def stored():
    """Programs as bundles hold them: operations with attributes, with regions, with constants."""

    def regions(weights, batch):
        grown = jax.lax.while_loop(lambda x: x[0] < 3, lambda x: (x[0] + 1, x[1] * 2), (0, batch["x"]))[1]
        return {"y": jax.lax.cond(grown.sum() > 0, jnp.sin, jnp.cos, grown) @ weights["w"]}

    def attributes(weights, batch):
        return {"y": jnp.sort(jnp.take(weights["w"], batch["x"].astype(int), axis=0), -1)[..., ::-1].sum(1)}

    functions = (regions, attributes)
    weights, batch = ({name: jax.ShapeDtypeStruct((4, 4), jnp.float32)} for name in ("w", "x"))
    return [jax.export.export(jax.jit(each), platforms=("cpu",))(weights, batch).serialize() for each in functions]


def test_programs(stored, budget, tmp_path):
    path = tmp_path / "program"
    with Opener() as opener:
        for number, generator in budget:
            content = bytearray(stored[number % len(stored)])
            if number % 4 < 2:
                content = mutated(bytes(content), generator, TELLING)
            else:  # a byte behind the head of the bytecode: what comes before is checked before it is read
                place = int(generator.integers(content.index(b"ML\xefR") + 22, len(content)))
                content[place] = int(generator.integers(256))
            path.write_bytes(content)
            if why := opener.open(path):
                budget.failed(why, content)
        path.write_bytes(bytes(stored[0]))
        assert not opener.open(path) and opener.counts.pop("opened"), "the good one is read"
        print(dict(opener.counts))
