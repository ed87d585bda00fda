"""Weak scaling: the cost of the trainer's host side as devices are added."""

import pytest


@pytest.mark.slow
def test_time_outside_the_step_does_not_grow_with_the_devices():
    """As a share of the step, with as many rows a device; what the host does is hidden behind a step in progress."""
    from benchmarks.overhead import scaled

    measured = scaled((1, 8), processes=False, rounds=2)
    shares = {count: loop / bare - 1 for count, (bare, loop) in measured.items()}
    print(f"\n{measured}, outside the step: {shares}")
    assert shares[8] <= 0.10
