"""One device or eight, and however they share the work: the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
FAMILIES = ("dnn", "transformer", "resnet", "audio", "deepfm")


def simulated(devices: int) -> dict[str, str]:
    return {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}


@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_steps_are_the_same_on_any_mesh(family):
    """Dropout is on. Statistics of the batch (ResNet, Conformer) end up equal too."""
    if family in ("audio", "deepfm") and "SUITE_DATA" not in os.environ:
        pytest.skip("SUITE_DATA names no folder: the recordings and clicks are missing")
    done = subprocess.run([sys.executable, "-m", "tests.mesh_child", family], cwd=ROOT, env=simulated(8),
                          capture_output=True, text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])[family]
    one = found.pop("one")
    assert len(one["losses"]) == 20 and len(set(one["losses"])) == 20
    assert sorted(found) == ["data", "fsdp", "mixed", "pmap"]
    for name, other in found.items():
        np.testing.assert_allclose(other["losses"], one["losses"], rtol=1e-5, err_msg=name)
        assert other["rest"].keys() == one["rest"].keys()
        for path, values in one["rest"].items():
            np.testing.assert_allclose(other["rest"][path], values, rtol=1e-4, atol=1e-5, err_msg=f"{name} {path}")
