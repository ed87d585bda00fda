"""Distributions of a sample: probabilities that sum to one, densities of SciPy, and draws that follow them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from suite.nn.audio.waveform import LEVELS, Gaussian, Logistics, MuLaw, categorical, from_mulaw, to_mulaw

EVEN = jnp.asarray((np.arange(4000) + 0.5) / 4000, jnp.float32)
"""Uniform numbers without chance."""


@pytest.mark.parametrize("classes", [16, 256, 1000])
def test_the_middle_of_each_category_is_in_it(classes):
    index = jnp.arange(classes)
    samples = from_mulaw(index, classes)
    assert (to_mulaw(samples, classes) == index).all()
    assert float(samples[0]) == -1 and float(samples[-1]) == 1 and (jnp.diff(samples) > 0).all()
    assert int(to_mulaw(jnp.float32(1.7), classes)) == classes - 1


def test_the_mu_law_is_that_of_the_standard():
    """Of the continuous law, a half of full scale lies at ln(1 + 255 / 2) / ln 256."""
    place = (np.log(1 + 127.5) / np.log(256) + 1) / 2 * 255
    assert int(to_mulaw(jnp.float32(0.5))) == round(place) and int(to_mulaw(jnp.float32(-0.5))) == round(255 - place)


def parameters(distribution):
    """Of two samples; the second one's lie beyond the loudest level, as those of a clipped sample do."""
    drawn = np.random.default_rng(0).standard_normal((2, distribution.size)).astype(np.float32)
    if isinstance(distribution, Logistics):
        drawn[:, distribution.mixtures :] *= 0.3
        drawn[1, distribution.mixtures : 2 * distribution.mixtures] += 1
        drawn[:, 2 * distribution.mixtures :] -= np.linspace(1, 9, distribution.mixtures)
    return jnp.asarray(drawn)


@pytest.mark.parametrize("distribution", [MuLaw(16), Logistics(5)])
def test_probabilities_sum_to_one(distribution):
    if isinstance(distribution, MuLaw):
        levels = from_mulaw(jnp.arange(16), 16)
    else:
        levels = (jnp.arange(LEVELS) - LEVELS // 2) / (LEVELS // 2)
    for row in parameters(distribution):
        nats = jax.jit(distribution.nats)(jnp.broadcast_to(row, (len(levels), len(row))), levels)
        assert float(jnp.exp(-nats).sum()) == pytest.approx(1, abs=2e-4)


def test_densities_are_those_of_scipy():
    samples, width = np.linspace(-0.5, 0.5, 9), 2 / LEVELS
    gaussian = Gaussian().nats(jnp.broadcast_to(jnp.array([0.1, -2.0]), (9, 2)), jnp.asarray(samples))
    np.testing.assert_allclose(gaussian, -stats.norm(0.1, np.exp(-2)).logpdf(samples) - np.log(width), rtol=1e-5)
    levels = np.round(samples * LEVELS / 2) * width
    logistic = Logistics(1).nats(jnp.broadcast_to(jnp.array([0.7, 0.1, -2.0]), (9, 3)), jnp.asarray(samples))
    exact = stats.logistic(0.1, np.exp(-2))
    np.testing.assert_allclose(
        logistic, -np.log(exact.cdf(levels + width / 2) - exact.cdf(levels - width / 2)), rtol=1e-4
    )


@pytest.mark.parametrize("size", [2, 5, 16, 256])
def test_categories_are_drawn_as_often_as_they_are_likely(size):
    logits = jnp.asarray(np.random.default_rng(1).standard_normal(size), jnp.float32)
    scaled = jnp.broadcast_to(logits - logits.max(), (len(EVEN), size))
    counts = np.bincount(categorical(scaled, EVEN), minlength=size) / len(EVEN)
    np.testing.assert_allclose(counts, jax.nn.softmax(logits), atol=1.5 / len(EVEN))


@pytest.mark.parametrize(
    ("distribution", "row", "exact"),
    [
        (Logistics(2), [9.0, -9.0, 0.2, 0.9, -3.0, 0.0], stats.logistic(0.2, np.exp(-3))),
        (Gaussian(), [0.2, -3.0], stats.norm(0.2, np.exp(-3))),
    ],
)
def test_samples_are_drawn_by_the_inverse_of_the_distribution(distribution, row, exact):
    uniform = jnp.stack([EVEN[::-1]] * (distribution.draws - 1) + [EVEN], -1)
    rows = jnp.broadcast_to(jnp.array(row), (len(EVEN), len(row)))
    drawn = distribution.draw(rows, uniform, jnp.ones(len(EVEN)))
    middle = slice(200, -200)
    np.testing.assert_allclose(drawn[middle], exact.ppf(np.asarray(EVEN, np.float64))[middle], atol=1e-4)


@pytest.mark.parametrize("distribution", [MuLaw(16), Logistics(5), Gaussian()])
def test_a_temperature_of_zero_takes_the_likeliest(distribution):
    rows = parameters(distribution)[:1].repeat(3, 0)
    uniform = jnp.array([0.01, 0.5, 0.99])[:, None].repeat(distribution.draws, 1)
    cold = np.asarray(distribution.draw(rows, uniform, jnp.zeros(3)))
    assert cold[0] == cold[1] == cold[2]
    warm = np.asarray(distribution.draw(rows, uniform, jnp.ones(3)))
    assert warm[0] != warm[2]
    if isinstance(distribution, MuLaw):
        assert cold[0] == pytest.approx(float(from_mulaw(rows[0].argmax(), 16)), abs=1e-6)
