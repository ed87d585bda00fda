"""How the processes of one run find each other: where the coordinator is, who has come, and that all start at once.

Each process knows three things: the address of process 0, how many processes there are, and its own number. They come
from flags, from SUITE_COORDINATOR, SUITE_PROCESSES and SUITE_PROCESS, or from what SLURM, Open MPI or a TPU's metadata
say. Before ``jax.distributed`` starts, which would wait in silence for whoever is missing, all report to process 0 at
the coordinator's own port (see `suite.parallel.failure_detector`), so that a missing one has a number.
"""

import contextlib
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from suite.errors import InputError, RunError
from suite.parallel.failure_detector import FailureDetector, Peer, first_message, reply, send

JOIN_SECONDS = 300.0
"""How long processes wait for the others to come: hosts of one allocation may start minutes apart."""
LOST_SECONDS = 60.0
"""How long a host may say nothing before it counts as lost. The end of a process is noticed at once."""
DETECTED = ("slurm", "ompi", "gketpu", "gcetpu")
"""Clusters that say themselves where the coordinator is, by JAX's names for them."""
FLAGS = ("coordinator", "processes", "process-id", "join-seconds", "lost-seconds")
VARIABLES = dict(
    zip(
        FLAGS,
        ("SUITE_COORDINATOR", "SUITE_PROCESSES", "SUITE_PROCESS", "SUITE_JOIN_SECONDS", "SUITE_LOST_SECONDS"),
        strict=True,
    )
)
_current: list[FailureDetector] = []


@dataclass(frozen=True)
class Place:
    """One process's place among those of a run.

    Attributes:
        coordinator: ``host:port`` of process 0; the port is free until the run begins.
        processes: how many there are.
        process: the number of this one, from 0.
        devices: local devices to use; None for all.
        join_seconds: how long to wait for the others.
        lost_seconds: how long a silent host counts as alive.
    """

    coordinator: str
    processes: int
    process: int
    devices: tuple[int, ...] | None = None
    join_seconds: float = JOIN_SECONDS
    lost_seconds: float = LOST_SECONDS

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator."""
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)


def find_place(flags: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place: by flags, else by variables, else by its cluster; None where it is alone.

    Args:
        flags: values by name, see ``FLAGS``; those that were not given are absent.
        environment: variables.

    Raises:
        InputError: something is missing, or no number.
    """
    given = {flag: flags.get(flag) or environment.get(variable, "") for flag, variable in VARIABLES.items()}
    devices = None
    if not (given["coordinator"] and given["processes"] and given["process-id"]):
        given, devices = _with_detected(given)
    wanted = FLAGS[:3]
    missing = [flag for flag in wanted if not given[flag]]
    if len(missing) == 3 or (given["processes"] == "1" and "coordinator" in missing):
        return None
    if missing:
        raise InputError(
            f"flag --{missing[0]}",
            "is missing: a run of several processes needs all three.",
            found=", ".join(f"--{flag} {given[flag]}" for flag in wanted if given[flag]),
            fix=f"give --{missing[0]}, or set {VARIABLES[missing[0]]}",
        )
    processes, process = _number(given, "processes", 1), _number(given, "process-id", 0)
    if process >= processes:
        raise InputError(
            "flag --process-id", f"{process} is none of {processes} processes.", fix=f"0 to {processes - 1}"
        )
    host, _, port = given["coordinator"].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(
            "flag --coordinator", f'"{given["coordinator"]}" is no address.', fix="--coordinator HOST:PORT"
        )
    if processes == 1:
        return None
    return Place(
        given["coordinator"],
        processes,
        process,
        devices,
        _seconds(given, "join-seconds", JOIN_SECONDS),
        _seconds(given, "lost-seconds", LOST_SECONDS),
    )


def _with_detected(given: dict[str, str]) -> tuple[dict[str, str], tuple[int, ...] | None]:
    """What is missing, from the cluster that this process runs in, if it says."""
    from jax._src.clusters import ClusterEnv  # what jax.distributed.initialize() itself asks

    for kind in ClusterEnv._cluster_types:
        if kind.name in DETECTED and kind.is_env_present():
            count = kind.get_process_count()
            if count == 1 and not given["processes"]:
                return given, None
            address = given["coordinator"] or kind.get_coordinator_address(
                timeout_secs=int(_seconds(given, "join-seconds", JOIN_SECONDS)), override_coordinator_port=None
            )
            detected = {"coordinator": address, "processes": str(count), "process-id": str(kind.get_process_id())}
            return {flag: given[flag] or detected.get(flag, "") for flag in FLAGS}, _own_devices(kind.name)
    return given, None


def _own_devices(cluster: str) -> tuple[int, ...] | None:
    """One GPU a task, where SLURM starts several tasks a host that all see all GPUs; else all that are seen."""
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1").partition("(")[0].partition(",")[0]
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if cluster != "slurm" or tasks == "1" or len(seen) == 1:
        return None
    return (int(os.environ["SLURM_LOCALID"]),)


def _number(given: Mapping[str, str], flag: str, least: int) -> int:
    if not given[flag].isdecimal() or int(given[flag]) < least:
        raise InputError(f"flag --{flag}", f'"{given[flag]}" is no number from {least}.', fix=f"--{flag} {least:d}")
    return int(given[flag])


def _seconds(given: Mapping[str, str], flag: str, default: float) -> float:
    try:
        seconds = float(given[flag] or default)
    except ValueError:
        seconds = 0.0
    if not seconds >= 1:
        raise InputError(
            f"flag --{flag}", f'"{given[flag]}" is no number of seconds from 1.', fix=f"--{flag} {default:g}"
        )
    return seconds


@contextlib.contextmanager
def joined(place: Place | None) -> Iterator[None]:
    """Within it this process is one of its run's: ``jax.distributed`` runs, and the end of any other process ends it.

    To be entered before JAX has looked at its devices. With None nothing happens.

    Raises:
        RunError: not all processes came in time; it says which.
    """
    if place is None:
        yield
        return
    watch = FailureDetector(place.process, muster(place), place.processes)
    watch.start()
    _current.append(watch)
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        list(place.devices) if place.devices else None,
        cluster_detection_method="deactivate",
        initialization_timeout=int(place.join_seconds),
        heartbeat_timeout_seconds=max(int(place.lost_seconds), 10),
        shutdown_timeout_seconds=int(place.lost_seconds),
    )
    yield
    # Not after an error: then the others may be anywhere, and `suite.parallel.failure_detector` ends all.
    close()


def close() -> None:
    """Leave the run together with all other processes."""
    import jax

    watch = _current.pop()
    watch.done()
    jax.distributed.shutdown()
    watch.close()


def current() -> FailureDetector | None:
    """The watch over the other processes, where this one has joined them."""
    return _current[-1] if _current else None


def muster(place: Place) -> list[Peer]:
    """Wait until all processes have come: process 0's connections to the others, another's to process 0.

    Raises:
        RunError: not all came; the message says how many did, and who is missing.
        InputError: process 0 cannot listen at the coordinator's port.
    """
    return _gather(place) if place.process == 0 else [_report(place)]


def _gather(place: Place) -> list[Peer]:
    until = time.monotonic() + place.join_seconds
    came: dict[int, Peer] = {}
    with _listening(place) as listener:
        while len(came) < place.processes - 1:
            listener.settimeout(max(until - time.monotonic(), 0.01))
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                break
            peer = _welcome(connection, place, came)
            if peer is not None:
                came[peer.process] = peer
            came = {process: peer for process, peer in came.items() if not peer.gone()}
    missing = sorted(set(range(1, place.processes)) - set(came))
    if missing:
        text = _who_is_missing(place, 1 + len(came), ", ".join(map(str, missing)))
        for peer in came.values():
            reply(peer.socket, {"refused": text})
        raise RunError(text)
    for peer in came.values():
        send(peer.socket, {"go": True})
    return list(came.values())


def _listening(place: Place) -> socket.socket:
    """At the coordinator's own port, which is free again, but for those connected, before JAX listens there."""
    listener = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        listener.bind(("", place.address[1]))
        listener.listen(place.processes)
    except OSError as error:
        listener.close()
        raise InputError(
            f'--coordinator "{place.coordinator}"',
            f"process 0 cannot listen at this port: {error.strerror}.",
            fix=f"--coordinator {shlex.quote(place.address[0])}:{place.address[1] + 1}",
        ) from None
    return listener


def _welcome(connection: socket.socket, place: Place, came: Mapping[int, Peer]) -> Peer | None:
    """Who has connected; None where it is none of this run's processes, which is told why."""
    hello, _ = first_message(connection, 5.0)
    if not {"process", "processes", "host"} <= hello.keys():
        connection.close()
        return None
    process, wrong = hello["process"], ""
    if hello["processes"] != place.processes:
        wrong = f"process {process} was told of {hello['processes']} processes, process 0 of {place.processes}"
    elif process not in range(1, place.processes) or (process in came and not came[process].gone()):
        wrong = f"there are two processes {process}: on {hello['host']}, and one that came before"
    if wrong:
        reply(connection, {"refused": wrong})
        print(f"suite: refused a process: {wrong}", file=sys.stderr, flush=True)
        return None
    return Peer(process, str(hello["host"]), connection, place.lost_seconds)


def _report(place: Place) -> Peer:
    until = time.monotonic() + place.join_seconds
    while True:
        try:
            connection = socket.create_connection(place.address, timeout=max(until - time.monotonic(), 0.1))
            hello = {"process": place.process, "processes": place.processes, "host": socket.gethostname()}
            send(connection, hello)
            # Process 0 may have begun to wait later than this one, and it knows who is missing.
            answer, rest = first_message(connection, max(until - time.monotonic(), 0) + place.join_seconds)
        except OSError:  # no such name yet, no listener yet
            answer, rest = {}, b""
        if "go" in answer:
            return Peer(0, place.address[0], connection, place.lost_seconds, rest=rest)
        if "refused" in answer:
            raise RunError(str(answer["refused"]))
        if time.monotonic() > until:
            raise RunError(_who_is_missing(place, 0, "0, to whom the others report"))
        time.sleep(0.2)


def _who_is_missing(place: Place, count: int, missing: str) -> str:
    joined = f"{count} of {place.processes} joined" if count else "no answer"
    return (
        f"{joined}, missing: {missing}\n  found: waited {place.join_seconds:g} s at {place.coordinator}\n"
        "  try:   start what is missing, look at its log, open the port between the hosts; or --join-seconds "
        f"{2 * place.join_seconds:g}"
    )
