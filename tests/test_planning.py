"""Plans of small functions, whose costs can be counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from suite.errors import InputError
from suite.planning import GIB, HARDWARE, Hardware, advice, estimate, fits, hardware, plan_step, render, report


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def layer(state, batch):
    return jax.tree.map(lambda w: w - 0.1 * (batch.T @ jnp.tanh(batch @ w)), state)


def test_flops_and_memory_of_a_product():
    plan = plan_step(jax.jit(jnp.matmul), (shape(256, 512), shape(512, 128)))
    assert plan["flops"] == pytest.approx(2 * 256 * 512 * 128, rel=0.1)
    assert plan["memory"]["arguments"] == 4 * (256 * 512 + 512 * 128)
    assert plan["memory"]["outputs"] == 4 * 256 * 128
    assert plan["memory"]["peak"] >= 4 * (256 * 512 + 512 * 128 + 256 * 128)
    assert plan["devices"] == 1


def test_donated_state_is_counted_once():
    arguments = (shape(512, 512), shape(64, 512))
    decay = lambda state, batch: (state * 0.9, batch.sum())
    kept = plan_step(jax.jit(decay), arguments)["memory"]
    donated = plan_step(jax.jit(decay, donate_argnums=0), arguments)["memory"]
    assert donated["aliased"] == 4 * 512 * 512
    assert donated["peak"] < kept["peak"]


def test_too_large_without_allocating():
    plan = plan_step(jax.jit(layer, donate_argnums=0), (shape(200_000, 200_000), shape(64, 200_000)))  # 160 GB
    device, count = hardware("tpu-v5e-32")
    result = report(plan, device, batch_size=64, devices=count, parameters=200_000**2)
    assert not fits(plan, device) and not result["fits"]
    text = render(result)
    assert "doesn't fit" in text and "--parallel.fsdp 16" in text and "--precision.compute bfloat16" in text
    assert "32 x tpu-v5e" in text
    assert result["memory"]["temporary"] == pytest.approx(plan["memory"]["temporary"] / 32, rel=1e-3)


def test_advice_for_activations():
    plan = {"flops": 1e12, "bytes": 1e9, "memory": {"arguments": 4e9, "temporary": 40e9, "peak": 44e9}}
    lines = advice(plan, HARDWARE["t4"], batch_size=256)
    assert any("--train.accumulate 4" in line for line in lines)
    assert any("--train.batch_size 64" in line for line in lines)
    assert advice(plan, HARDWARE["h100"], batch_size=256) == []
    assert not any("bfloat16" in line for line in advice(plan, HARDWARE["t4"], batch_size=256, compute="bfloat16"))


def test_roofline():
    device = Hardware("x", 100.0, 50.0, 10.0, GIB)
    plan = {"flops": 1000.0, "bytes": 50.0}
    assert estimate(plan, device) == 20.0
    assert estimate(plan, device, "bfloat16") == 10.0
    assert estimate({"flops": 1.0, "bytes": 50.0}, device) == 5.0


def test_the_cpu_is_measured():
    device, count = hardware()
    assert device.name == "cpu" and count >= 1
    assert 1e9 < device.float32 < 1e14 and 1e8 < device.bandwidth < 1e13 and device.memory > 1e8
    plan = plan_step(jax.jit(jnp.matmul), (shape(64, 64), shape(64, 64)))
    assert "yes" in render(report(plan, device, batch_size=64))


def test_unknown_device():
    with pytest.raises(InputError, match="--devices tpu-v5p"):
        hardware("tpu-v5-8")
