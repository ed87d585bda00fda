"""Samplers and processes: ways that are known in closed form, guidance, and rows that depend on nothing beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from suite.decoding.flows import Edm, Flow, sample
from suite.errors import InputError

ROWS, SHAPE = 4, (2, 3, 1)
NOISE = jax.random.normal(jax.random.key(0), (ROWS, *SHAPE))
FREE = jnp.ones(ROWS)


def steps(*numbers):
    return jnp.asarray(numbers, jnp.int32)


def towards(point):
    """The velocity that leads everything to one picture, straight on."""
    return lambda noisy, time, doubled: (point - noisy) / jnp.maximum(1 - time, 1e-6)[:, None, None, None]


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_a_straight_way_is_gone_in_any_number_of_steps(method):
    made = jax.jit(lambda noise: sample(Flow(), towards(0.3), noise, steps(1, 2, 7, 50), FREE, method))(NOISE)
    np.testing.assert_allclose(made, 0.3, atol=1e-5)


def test_edm_shrinks_noise_to_the_deviation_of_normal_pictures():
    """Of normal pictures the best network predicts nothing: all lies in the preconditioning. The way's end is known."""
    process = Edm(data=0.5)
    wanted = NOISE * process.high * process.data / np.hypot(process.data, process.high)

    def off(method, count):
        network = lambda noisy, time, doubled: jnp.zeros_like(noisy)
        made = sample(process, network, NOISE, jnp.full(ROWS, count), FREE, method)
        return float(jnp.abs(made / wanted - 1).max())

    assert off("heun", 40) < 0.01 < off("euler", 40)
    assert off("euler", 160) < off("euler", 40) / 2


def test_heun_is_of_second_order():
    network = lambda noisy, time, doubled: noisy * jnp.cos(3 * time)[:, None, None, None]
    wanted = NOISE * np.exp(np.sin(3) / 3)

    def off(count):
        return float(jnp.abs(sample(Flow(), network, NOISE, jnp.full(ROWS, count), FREE, "heun") - wanted).max())

    def plain(count):
        return float(jnp.abs(sample(Flow(), network, NOISE, jnp.full(ROWS, count), FREE, "euler") - wanted).max())

    # The error falls as the square of the length of a step, Euler's as the length.
    assert off(128) < off(32) / 10 and plain(128) > plain(32) / 5
    assert off(32) < plain(32) / 8


def curved(noisy, time, doubled):
    return jnp.sin(4 * noisy) - 2 * noisy * time[:, None, None, None]


@pytest.mark.parametrize("process", [Flow(), Edm()])
@pytest.mark.parametrize("method", ["euler", "heun"])
def test_a_row_is_made_the_same_alone_and_beside_rows_of_other_steps(process, method):
    counts = steps(1, 9, 3, 4)
    together = sample(process, curved, NOISE, counts, FREE, method)
    for row in range(ROWS):
        alone = sample(process, curved, NOISE[row : row + 1], counts[row : row + 1], FREE[:1], method)
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-6, atol=1e-6)


def test_guidance_is_a_factor_on_what_the_condition_changes():
    def network(noisy, time, doubled):
        ones = jnp.ones_like(noisy)
        return jnp.concatenate([ones[:ROWS], 0.25 * ones[ROWS:]]) if doubled else ones

    made = sample(Flow(), network, NOISE, jnp.full(ROWS, 3), jnp.asarray([0.0, 1.0, 2.0, 5.0]), "euler")
    np.testing.assert_allclose((made - NOISE)[:, 0, 0, 0], 0.25 + 0.75 * np.array([0, 1, 2, 5]), rtol=1e-5)
    plain = sample(Flow(), network, NOISE, jnp.full(ROWS, 3), FREE, "euler")
    np.testing.assert_allclose(plain - NOISE, 1, rtol=1e-5)


def test_what_is_learnt_is_what_leads_back_to_the_picture():
    picture, level = jax.random.uniform(jax.random.key(1), NOISE.shape), jnp.linspace(-1.5, 1.5, ROWS)
    given, time, wanted = Flow().example(picture, NOISE, level)
    left = (1 - time)[:, None, None, None]
    np.testing.assert_allclose(given + left * wanted, picture, atol=1e-6)
    process = Edm()
    given, time, wanted = process.example(picture, NOISE, level)
    sigma = jnp.exp(process.mean + process.deviation * level)
    noisy = picture + sigma[:, None, None, None] * NOISE

    def network(inside, about):
        np.testing.assert_allclose(inside, given, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(about, time, rtol=1e-5, atol=1e-6)
        return wanted

    np.testing.assert_allclose(process.slope(network, noisy, sigma), NOISE, rtol=1e-3, atol=1e-4)


def test_inputs_and_targets_of_edm_have_unit_deviation():
    """Of pictures of the deviation that it is told, whatever the noise."""
    keys = jax.random.split(jax.random.key(3))
    picture, noise = (jax.random.normal(key, (6, 200, 200, 1)) for key in keys)
    given, _, wanted = Edm(data=0.5).example(0.5 * picture, noise, jnp.linspace(-3, 3, 6))
    np.testing.assert_allclose(given.std((1, 2, 3)), 1, atol=0.02)
    np.testing.assert_allclose(wanted.std((1, 2, 3)), 1, atol=0.02)


@pytest.mark.parametrize("build", [lambda: Flow(deviation=0.0), lambda: Edm(data=-1.0), lambda: Edm(high=0.001)])
def test_processes_that_cannot_be_are_refused(build):
    with pytest.raises(InputError, match=r"field task\.process\."):
        build()
