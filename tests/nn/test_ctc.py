"""CTC against all alignments, against optax, and live against PyTorch; rows with too few frames."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from suite.nn.audio.ctc import ctc_fits, ctc_loss


def case(seed, rows=6, frames=20, symbols=5, most=8):
    """(logits, mask, labels, labels_mask): rows of 10 to 20 frames and 0 to 8 labels, repeats among them."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((rows, frames, symbols)).astype(np.float32)
    mask = np.arange(frames) < rng.integers(frames // 2, frames + 1, rows)[:, None]
    labels = rng.integers(1, symbols, (rows, most)).astype(np.int32)
    return logits, mask, labels, np.arange(most) < rng.integers(0, most + 1, rows)[:, None]


def value_and_grad(logits, *rest):
    weights = jnp.arange(1.0, len(logits) + 1)  # rows have gradients of their own
    grads = jax.jit(jax.grad(lambda x: (weights * ctc_loss(x, *rest)[0]).sum()))(logits)
    losses, fits = jax.jit(ctc_loss)(logits, *rest)
    return np.asarray(losses), np.asarray(grads), np.asarray(fits)


def collapse(path):
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


@pytest.mark.parametrize("labels", [[], [1], [1, 1], [2, 1, 2]])
def test_the_loss_counts_every_alignment(labels):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((1, 5, 3)).astype(np.float32)
    probs = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    paths = [path for path in itertools.product(range(3), repeat=4) if collapse(path) == labels]
    expected = -np.log(sum(np.prod(probs[np.arange(4), path]) for path in paths))
    mask = np.arange(5)[None] < 4  # the fifth frame is padding
    padded = np.array([labels + [2] * (4 - len(labels))])
    (loss,), _, fits = value_and_grad(logits, mask, padded, np.arange(4)[None] < len(labels))
    assert fits.all()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_are_those_of_optax(seed):
    logits, mask, labels, labels_mask = case(seed)
    losses, grads, fits = value_and_grad(logits, mask, labels, labels_mask)
    weights = jnp.where(fits, jnp.arange(1.0, 7), 0)

    def theirs(x):
        made = optax.ctc_loss(x, 1.0 - mask, labels, 1.0 - labels_mask)
        return (weights * made).sum(), made

    expected, made = jax.jit(jax.grad(theirs, has_aux=True))(logits)
    np.testing.assert_allclose(losses[fits], np.asarray(made)[fits], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grads[fits], np.asarray(expected)[fits], atol=1e-4)
    assert not grads[~mask].any()


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradient_are_those_of_pytorch(seed):
    import torch

    logits, mask, labels, labels_mask = case(seed, frames=40 if seed else 12)
    losses, grads, fits = value_and_grad(logits, mask, labels, labels_mask)
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    made = torch.nn.functional.ctc_loss(
        x.log_softmax(-1).transpose(0, 1),
        torch.tensor(labels),
        torch.tensor(mask.sum(1)),
        torch.tensor(labels_mask.sum(1)),
        reduction="none",
        zero_infinity=True,
    )
    (made * torch.arange(1.0, 7)).sum().backward()
    np.testing.assert_allclose(losses, made.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grads, np.where(fits[:, None, None], x.grad.numpy(), 0), atol=1e-4)


def test_rows_with_too_few_frames_have_no_loss_and_no_gradient():
    labels = np.array([[1, 2, 3, 0], [1, 1, 2, 0], [1, 1, 2, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    labels_mask = labels > 0
    frames = np.array([2, 3, 4, 0, 0])
    mask = np.arange(6) < frames[:, None]
    np.testing.assert_array_equal(ctc_fits(mask, labels, labels_mask), [False, False, True, False, True])
    logits = np.random.default_rng(0).standard_normal((5, 6, 4)).astype(np.float32)
    losses, grads, fits = value_and_grad(logits, mask, labels, labels_mask)
    np.testing.assert_array_equal(fits, [False, False, True, False, True])
    assert np.isfinite(losses).all() and np.isfinite(grads).all()
    assert not losses[~fits].any() and not grads[~fits].any()
    assert losses[2] > 0 and grads[2, :4].any() and not grads[2, 4:].any() and losses[4] == 0


def test_long_inputs_stay_exact_in_float32():
    """The gradient of a frame sums to zero, as softmax and shares both sum to one, also after 2,000 frames."""
    rng = np.random.default_rng(1)
    logits = 4 * rng.standard_normal((2, 2000, 30)).astype(np.float32)
    labels = rng.integers(1, 30, (2, 150))
    losses, grads, fits = value_and_grad(logits, np.ones((2, 2000), bool), labels, np.ones((2, 150), bool))
    assert fits.all() and (losses > 1000).all()
    np.testing.assert_allclose(grads.sum(-1), 0, atol=1e-5)


def test_confident_frames_have_almost_no_loss():
    logits = np.full((1, 6, 4), -30.0, np.float32)
    logits[0, np.arange(6), [1, 1, 0, 1, 2, 0]] = 30.0
    losses, grads, _ = value_and_grad(logits, np.ones((1, 6), bool), np.array([[1, 1, 2]]), np.ones((1, 3), bool))
    assert abs(losses[0]) < 1e-6 and np.abs(grads).max() < 1e-6
