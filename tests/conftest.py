"""Fixtures of all tests: a cache of their own, the repository on the path of child processes, a runner of commands."""

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import forked

ROOT = Path(__file__).parent.parent
QUICK = (
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false"
)
"""What a test computes is small: to compile it quickly is worth more than to compile it well. A program is compiled in
one piece, since the other core has tests of its own, and its fusions by the emitter that takes a third of the time."""
if QUICK not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()
# Threads of scikit-learn, PyTorch and BLAS wait for each other in loops, which costs most where the other core is busy.
for _library in ("OMP", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
PROCESSES = {
    "tests.distributed",
    "tests.fuzz",
    "tests.planning",
    "tests.serving",
    "tests.test_delivery",
    "tests.test_docs_commands",
    "tests.test_forked",
    "tests.test_legacy",
    "tests.test_notebooks",
    "tests.test_packaging",
    "tests.test_plugin",
    "tests.test_task_scripts",
    "tests.training.test_interruption",
    "tests.training.test_kills",
    "tests.training.test_resume",
    "tests.tuning",
}
"""Packages and modules whose tests start processes of their own: kills, meshes, servers, pages."""
HEAVY = {
    "tests.compression",
    "tests.exporting",
    "tests.models",
    "tests.nn",
    "tests.parity",
    "tests.tasks",
    "tests.test_adaptation",
    "tests.test_evaluation",
    "tests.test_parameters",
    "tests.test_recipes",
    "tests.test_reference",
    "tests.training",
    "tests.weights",
}
"""Packages and modules whose tests compile for minutes."""


LONG = (
    "tests.test_plugin",
    "tests.distributed.test_meshes",
    "tests.test_recipes",
    "tests.models.test_parts",
    "tests.test_notebooks",
    "tests.distributed.test_hosts",
    "tests.test_docs_commands",
    "tests.training.test_resume",
    "tests.training.test_interruption",
    "tests.training.test_trainer",
    "tests.test_legacy",
    "tests.tuning.test_tuning",
    "tests.tasks.test_translation",
    "tests.models.test_audio",
)
"""Modules that take longest, the longest first."""


def pytest_collection_modifyitems(items):
    """Marks tests by what they cost: the quick tier of scripts/test leaves both kinds out. What takes longest comes
    first, so that no process is left with it at the end."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.module.__name__, len(LONG)))
    for item in items:
        name = item.module.__name__
        within = lambda names, name=name: any(name == part or name.startswith(f"{part}.") for part in names)
        if {"child", "forked_child"}.intersection(item.fixturenames) or within(PROCESSES):
            item.add_marker("processes")
        elif within(HEAVY):
            item.add_marker("heavy")


def pytest_collection_finish():
    """What is imported by now stays: to look through it at each collection of garbage is a twelfth of the run."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    """Comparisons with PyTorch import packages whose compiled parts may be of another build."""
    if item.get_closest_marker("peers"):
        from tests.parity.golden import mend_torch

        mend_torch()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Nothing is written to the home folder: compiled programs and decoded data go to a folder of this session."""
    os.environ.setdefault("SUITE_CACHE", str(tmp_path_factory.mktemp("suite-cache")))


MOST_MEMORY = 3 * 2**30
"""Bytes of a worker's memory beyond which its compiled programs go at the end of a file."""


@pytest.fixture(scope="module", autouse=True)
def memory():
    """Compiled programs go with the file that leaves too many: kept, they are gigabytes by the end of a worker's files,
    and cleared after each file, the common ones are traced and loaded again by the next."""
    yield
    if "jax" in sys.modules and psutil.Process().memory_info().rss > MOST_MEMORY:
        sys.modules["jax"].clear_caches()
        gc.collect()
        gc.freeze()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)


def simulated(devices):
    """Environment variables of a process with so many devices, all of them this processor."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def check_command(line, given):
    """Fails where the parser would refuse the command, or where it is the one that was ``given``."""
    import shlex

    from suite.cli import app, flags

    words = shlex.split(line)[1:]
    assert words != given, f"the failing command is advised again: {line}"
    if words[-1:] != ["--help"]:
        name, rest = app._split(words)
        flags.parse(app._verb(name, rest).flags, rest)


@pytest.fixture
def refused(capsys):
    """Runs a command line that must be refused; returns what it printed to standard error. Advice that is a command
    must be one that the parser takes, and another one than was run."""

    def run(*arguments):
        from suite.cli.app import main

        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr().err
        assert stop.value.code == 2, printed
        assert "Traceback" not in printed
        for line in printed.splitlines():
            if line.startswith("  try:   suite "):
                check_command(
                    line.removeprefix("  try:   ").partition(" && ")[0], [str(argument) for argument in arguments]
                )
        return printed

    return run


@pytest.fixture
def command(capsys):
    """Runs a command line that must succeed; returns what it printed to standard output."""

    def run(*arguments):
        from suite.cli.app import main

        main([str(argument) for argument in arguments])
        return capsys.readouterr().out

    return run


def _in_a_process(run):
    def child(code, **environment):
        done = run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return child


@pytest.fixture
def child():
    """Runs Python code in a fresh interpreter at the root of the repository; returns its standard output."""
    return _in_a_process(subprocess.run)


@pytest.fixture
def forked_child():
    """The same in a process whose imports are done; for what does not ask what an interpreter loads."""
    return _in_a_process(forked.run)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """(run, bundle) of a small model that was not trained, by the name of its task in tests/untrained.py; made once."""
    import suite
    from tests.untrained import TASKS, untrained

    made = {}

    def export(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            run = untrained(TASKS[name](folder), folder / "run")
            made[name] = run, suite.export(run, folder / "bundle")
        return made[name]

    return export


@pytest.fixture
def mounted(tmp_path):
    """Mounts a real file system of so many MiB, and returns its folder; one a test."""
    folder = tmp_path / "disk"

    def mount(mebibytes):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
        if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(mounted):
    """A real file system of 6 MiB."""
    return mounted(6)
