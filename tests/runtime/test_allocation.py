"""Memory of a step stays with the process, however the process began to compute."""

import pytest

BEGINNINGS = {
    "command": "from suite.cli.app import main; main(['train', 'vision.digits_dnn', '--smoke', '--run-dir={folder}'])",
    "function": "import suite; suite.train(suite.load('vision.digits_dnn', smoke=True), '{folder}')",
}
ASK = """
import resource
import jax, jax.numpy as jnp
sums = jax.jit(lambda x: jax.lax.optimization_barrier(jnp.outer(x, x)).sum())
x = jnp.arange(5000.0)  # the product has 100 MB, more than an arena of a thread holds
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    sums(x).block_until_ready()
begun = faults()
for _ in range(5):
    sums(x).block_until_ready()
print("faults", faults() - begun)
"""


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_temporaries_are_not_faulted_in_again(child, tmp_path, beginning):
    """Five products of 100 MB are 120,000 pages of 4 KiB where each is given back to the system."""
    printed = child(BEGINNINGS[beginning].format(folder=str(tmp_path / "run")) + ASK)
    assert int(printed.split()[-1]) < 10_000
