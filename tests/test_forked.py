"""Processes of tests that are forked rather than started: what they are given, what they print, how they end."""

import os
import signal
import subprocess
import sys

import pytest

from tests import forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they are started elsewhere")


def completed(arguments, **given):
    return forked.run([sys.executable, *arguments], capture_output=True, text=True, **given)


def test_it_has_its_arguments_variables_and_folder(tmp_path):
    code = "import os, sys; print(sys.argv[1:], os.environ['GIVEN'], os.getcwd(), file=sys.stderr); sys.exit(3)"
    done = completed(["-c", code, "a", "b c"], cwd=tmp_path, env={**os.environ, "GIVEN": "x"})
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"['a', 'b c'] x {tmp_path}\n"


def test_it_asks_for_devices_of_its_own():
    several = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu"}
    for environment, count in ((several, "3\n"), (None, "1\n")):
        done = completed(["-c", "import jax; print(jax.device_count())"], env=environment)
        assert (done.stdout, done.returncode) == (count, 0), done.stderr


def test_a_module_runs_as_a_program():
    done = completed(["-m", "suite", "train", "no_such_recipe"])
    assert done.returncode == 2 and "Traceback" not in done.stderr and "no_such_recipe" in done.stderr


def test_signals_end_it():
    waits = ["-c", "import time; print(1, flush=True); time.sleep(60)"]
    for number in (signal.SIGTERM, signal.SIGKILL):
        with forked.process([sys.executable, *waits], stdout=subprocess.PIPE, start_new_session=True) as running:
            assert running.stdout.readline() == b"1\n" and running.poll() is None
            assert os.getpgid(running.pid) == running.pid != os.getpgid(0)
            os.killpg(running.pid, number)
            assert running.wait(10) == -number == running.poll()


def test_a_traceback_is_printed():
    done = completed(["-c", "raise ValueError('so')"])
    assert done.returncode == 1 and done.stderr.endswith("ValueError: so\n")


def test_variables_that_imports_have_read_start_an_interpreter():
    done = completed(["-c", "import jax; print(jax.config.jax_enable_x64)"], env={**os.environ, "JAX_ENABLE_X64": "1"})
    assert done.stdout == "True\n", done.stderr
