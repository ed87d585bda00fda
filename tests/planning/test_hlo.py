"""Costs read from the text of compiled programs, beside programs whose costs are known by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from suite.planning import hlo
from tests.conftest import simulated

N, M = 256, 96
"""Rows and columns of the matrix that eight devices share."""
WHOLE = 4 * N * M


def module(function, *shapes, donate=()):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    compiled = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
    return hlo.parse(compiled.as_text()), compiled


@pytest.fixture(scope="module")
def on_eight():
    """Programs compiled for eight devices, in one process: name -> text."""
    program = Path(__file__).parent / "collectives_child.py"
    environment = {**os.environ, **simulated(8)}
    done = subprocess.run([sys.executable, program, str(N), str(M)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: hlo.parse(text) for name, text in json.loads(done.stdout).items()}


@pytest.mark.parametrize(
    ("name", "kind", "count", "size", "sent"),
    [
        ("fsdp gather", "all-gather", 1, WHOLE, WHOLE * 7 / 8),
        ("gather by pairs", "all-gather", 1, WHOLE, WHOLE / 2),
        ("sum", "all-reduce", 1, 4 * M, 2 * 4 * M * 7 / 8),
        ("sum by fours", "all-reduce", 1, 4 * M, 2 * 4 * M * 3 / 4),
        ("sum of two", "all-reduce", None, 4 * M + 4, 2 * (4 * M + 4) * 7 / 8),
        ("fsdp gradient", "reduce-scatter", 1, 4 * M * M, 4 * M * M * 7 / 8),
        ("scatter", "reduce-scatter", 1, WHOLE, WHOLE * 7 / 8),
        ("exchange", "all-to-all", 1, WHOLE / 8, WHOLE / 8 * 7 / 8),
        ("pass on", "collective-permute", 1, WHOLE / 8, WHOLE / 8),
        ("pass on five times", "collective-permute", 5, 5 * WHOLE / 8, 5 * WHOLE / 8),
        ("pass on three times five times", "collective-permute", 15, 15 * WHOLE / 8, 15 * WHOLE / 8),
    ],
)
def test_bytes_known_by_hand(on_eight, name, kind, count, size, sent):
    assert on_eight[name].devices == 8
    found = hlo.collectives(on_eight[name])
    assert set(found) == {kind}
    assert found[kind]["bytes"] == size
    assert found[kind]["sent"] == pytest.approx(sent)
    assert count is None or found[kind]["count"] == count


def test_started_and_done_count_once():
    """The form of accelerators: an operation is begun and later awaited; its result carries its operand along."""
    text = """HloModule jit_f, is_scheduled=true, num_partitions=4

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main (x: bf16[8,64], y: f32[32]) -> (bf16[32,64], f32[32]) {
  %x = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(0)
  %y = f32[32]{0:T(256)} parameter(1)
  %ag = (bf16[8,64]{1,0:T(8,128)(2,1)}, bf16[32,64]{1,0:T(8,128)(2,1)}) all-gather-start(%x), replica_groups={{0,1,2,3}}
  %gathered = bf16[32,64]{1,0:T(8,128)(2,1)} all-gather-done(%ag)
  %ar = f32[32]{0:T(256)} all-reduce-start(%y), replica_groups=[2,2]<=[4], to_apply=%add, metadata={op_name="f/{%x}"}
  %reduced = f32[32]{0:T(256)} all-reduce-done(%ar)
  ROOT %both = (bf16[32,64]{1,0}, f32[32]{0}) tuple(%gathered, %reduced)
}
"""
    found = hlo.collectives(hlo.parse(text))
    assert found["all-gather"] == {"count": 1, "bytes": 2 * 32 * 64, "sent": 2 * 32 * 64 * 3 / 4}
    assert found["all-reduce"] == {"count": 1, "bytes": 4 * 32, "sent": 4 * 32}


def test_one_device_talks_to_nobody():
    program, _ = module(lambda x: x @ x.T, (64, 64))
    assert program.devices == 1 and hlo.collectives(program) == {}


def test_traffic_without_loops_is_the_compilers():
    def step(w, v, x):
        hidden = jnp.tanh(x @ w)
        return w - x.T @ (hidden * (1 - hidden**2)), v + jnp.sum(hidden @ v), hidden.mean()

    program, compiled = module(step, (512, 256), (256, 128), (64, 512))
    assert hlo.traffic(program) == pytest.approx(compiled.cost_analysis()["bytes accessed"], rel=0.1)


def test_a_loop_moves_its_body_each_time():
    def repeated(times):
        return lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c @ c), None), x, length=times)[0]

    one, four, forty = (hlo.traffic(module(repeated(times), (256, 256))[0]) for times in (1, 4, 40))
    assert forty == pytest.approx(10 * four, rel=0.15)
    assert 4 * 256 * 256 * 2 <= one < four


def test_rows_of_a_table_not_the_table():
    """What a row-sparse update reads and writes doesn't depend on the table it is taken from."""

    def update(table, ids, x):
        rows = table.at[ids.astype(jnp.int32)].get(mode="clip")
        return table.at[ids.astype(jnp.int32)].set(rows * x, mode="drop")

    small, large = (
        hlo.traffic(module(update, (rows, 16), (1000,), (1000, 16), donate=0)[0]) for rows in (10_000, 10_000_000)
    )
    assert large == small
    assert 3 * 4 * 16_000 <= large < 12 * 4 * 16_000


def test_no_program():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse("HloModule empty")
