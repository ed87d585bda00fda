"""Several processes on this machine, as the hosts of a pod would be: for trying out what will run there."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from suite.errors import InputError

VERBS = ("train", "evaluate")
"""Verbs whose work several processes share."""
END_SECONDS = 20.0
"""How long the others have, once one has failed, to notice it and end by themselves."""


def launch(processes: int, command: Sequence[str]) -> int:
    """Run ``suite`` with ``command`` in ``processes`` processes that are one run; returns when all have ended.

    Each has this machine's devices, as many as JAX shows it: for CPUs, ``XLA_FLAGS``
    ``--xla_force_host_platform_device_count`` says how many; GPUs named in CUDA_VISIBLE_DEVICES are divided. Process 0
    writes to this one's outputs as if it were alone, the others with their number before each line. SIGTERM and Ctrl-C
    reach them as a notice of preemption, which all obey at one step.

    Returns:
        The exit code of the first that failed, 128 and the signal's number where one ended it; 0 where none did.

    Raises:
        InputError: there is nothing to launch.
    """
    if processes < 1:
        raise InputError("flag --processes", f"{processes} is no number from 1.", fix="--processes 2")
    if not command or command[0] not in VERBS:
        raise InputError(
            "arguments",
            f"{' '.join(command[:1]) or 'nothing'} cannot be launched.",
            found=", ".join(VERBS),
            fix=f"suite launch --processes {processes:d} -- train EXPERIMENT",
        )
    shares = _shares(processes)
    address = f"127.0.0.1:{_free_port()}"
    children: list[subprocess.Popen[str]] = []
    with _forwarded(children):
        for process, share in enumerate(shares):
            variables = {
                "SUITE_COORDINATOR": address,
                "SUITE_PROCESSES": str(processes),
                "SUITE_PROCESS": str(process),
                **share,
            }
            pipe = subprocess.PIPE if process else None
            # A session of its own: what the terminal sends to all at once would end each at a step of its own.
            child = subprocess.Popen(
                [sys.executable, "-m", "suite", *command],
                stdout=pipe,
                stderr=pipe,
                text=True,
                env={**os.environ, **variables},
                start_new_session=True,
            )
            children.append(child)
        threads = [
            threading.Thread(target=_pass_on, args=(source, target, process), daemon=True)
            for process, child in enumerate(children)
            for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
            if source
        ]
        for thread in threads:
            thread.start()
        code = _wait(children)
        for thread in threads:
            thread.join(1.0)
    return code


def _shares(processes: int) -> list[dict[str, str]]:
    """The GPUs of each process, where they are named."""
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if not named:
        return [{}] * processes
    if len(named) % processes:
        raise InputError(
            "flag --processes",
            f"{len(named)} GPUs cannot be divided among {processes}.",
            found=f"CUDA_VISIBLE_DEVICES={','.join(named)}",
            fix=f"--processes {len(named)}",
        )
    share = len(named) // processes
    return [{"CUDA_VISIBLE_DEVICES": ",".join(named[i * share : (i + 1) * share])} for i in range(processes)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pass_on(source: IO[str], target: IO[str], process: int) -> None:
    for line in source:
        target.write(f"[{process}] {line}")
        target.flush()


@contextmanager
def _forwarded(children: list[subprocess.Popen[str]]) -> Iterator[None]:
    """SIGTERM and Ctrl-C go to the children as SIGTERM, a second Ctrl-C kills them; none outlives this process."""
    asked = []

    def forward(number: int, frame: FrameType | None) -> None:
        kill = number == signal.SIGINT and signal.SIGINT in asked
        asked.append(number)
        for child in children:
            child.send_signal(signal.SIGKILL if kill else signal.SIGTERM)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in children:
            if child.poll() is None:
                child.kill()
            child.wait()


def _wait(children: list[subprocess.Popen[str]]) -> int:
    """Until all have ended; those that don't end after one has failed are ended."""
    failed, since = 0, 0.0
    while running := [child for child in children if child.poll() is None]:
        if not failed and (codes := [child.returncode for child in children if child.returncode]):
            failed, since = min(codes), time.monotonic()
        if failed and failed != 75 and time.monotonic() - since > END_SECONDS:
            for child in running:
                child.kill()
        time.sleep(0.05)
    # Of those that end at once: what a signal ended comes before what found its own fault, and before what followed.
    failed = failed or min((child.returncode for child in children if child.returncode), default=0)
    return 128 - failed if failed < 0 else failed
