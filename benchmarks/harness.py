"""Runs variants of a case in turn, each in a process of its own, and prints how they compare.

Own processes give each variant its own thread pools, allocator settings and peak memory. Turns alternate, round
after round, so that a machine that slows down does so for all. A turn in which another process used the cores is
taken again. The ratio is that of the fastest peer over ours, round by round: above 1, ours is faster.

    @variant("dnn train", "ours float32")
    def _():
        ...              # set-up, not timed
        return step      # returns when its work is done; or (step, n) where one call is n units

    if __name__ == "__main__":
        main()

A variant named "ours ..." is ours; every other is a peer.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.parity.golden import mend_torch

Make = Callable[[], Any]
CASES: dict[str, dict[str, Make]] = {}

_TURNS = 3
"""Times a disturbed turn is taken again before it is kept as it is."""


def keep_pages() -> None:
    """Sets what suite.runtime.allocation.keep_memory sets, without importing JAX: for the peers' processes."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for name, value in ((-4, 0), (-1, 2**31 - 1), (-8, 1)):
            libc.mallopt(name, value)


def variant(case: str, name: str) -> Callable[[Make], Make]:
    """Register a function that sets a variant up and returns its step."""

    def add(make: Make) -> Make:
        CASES.setdefault(case, {})[name] = make
        return make

    return add


def _cpu_seconds() -> tuple[float, float]:
    """CPU time used so far by the whole machine and by this process; equal to one another where unknown."""
    times = os.times()
    own = times.user + times.system
    try:
        with open("/proc/stat") as file:
            ticks = [int(field) for field in file.readline().split()[1:]]
    except OSError:
        return own, own
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK"), own


def _turn(step: Callable[[], Any], seconds: float) -> tuple[list[float], bool]:
    """Times of as many calls as fit, and whether other processes left the cores alone."""
    times: list[float] = []
    machine, own, begin = *_cpu_seconds(), time.perf_counter()
    while not times or time.perf_counter() < begin + seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    wall = time.perf_counter() - begin
    machine_after, own_after = _cpu_seconds()
    return times, (machine_after - machine) - (own_after - own) < 0.05 + 0.08 * wall


def _say(**answer: Any) -> None:
    print("@" + json.dumps(answer), flush=True)


def _worker(case: str, name: str) -> None:
    """Set up one variant, then take a turn for each line of standard input: its length in seconds."""
    if not name.startswith("ours"):
        mend_torch()
    made = CASES[case][name]()
    step, units = made if isinstance(made, tuple) else (made, 1)
    start = time.perf_counter()
    step()
    _say(first=time.perf_counter() - start)
    step()
    for line in sys.stdin:
        for _ in range(_TURNS):
            times, quiet = _turn(step, float(line))
            if quiet:
                break
            time.sleep(1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        _say(seconds=statistics.median(times) / units, quiet=quiet, peak=peak)


class _Process:
    """A variant at work in its own process."""

    def __init__(self, case: str, name: str):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, "-m", sys.modules["__main__"].__spec__.name, "--worker", case, name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.turns: list[dict[str, float]] = []
        self.first = self.read()["first"]

    def read(self) -> dict[str, float]:
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        self.process.wait()
        self.log.seek(0)
        raise RuntimeError(self.log.read().strip()[-2000:])

    def turn(self, seconds: float) -> None:
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self.turns.append(self.read())

    @property
    def times(self) -> list[float]:
        return [turn["seconds"] for turn in self.turns]


def run_case(case: str, names: list[str], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Let the variants take turns; print and return one row for each."""
    processes: dict[str, _Process] = {}
    try:
        for name in names:
            processes[name] = _Process(case, name)
        for _ in range(rounds):
            for process in processes.values():
                process.turn(seconds)
    finally:
        for process in processes.values():
            process.process.kill()
    return _report(case, processes)


def _report(case: str, processes: dict[str, _Process]) -> list[dict[str, Any]]:
    peers = [name for name in processes if not name.startswith("ours")]
    best = min(peers, key=lambda name: statistics.median(processes[name].times)) if peers else None
    print(f"\n## {case}" + (f" (fastest peer: {best})" if best else ""))
    print(f"{'variant':44s} {'ms':>9s} {'ratio':>6s} {'min..max':>11s} {'first s':>8s} {'peak GiB':>8s} {'noisy':>5s}")
    rows = []
    for name, process in processes.items():
        ratios = [b / a for a, b in zip(process.times, processes[best].times, strict=True)] if best else [float("nan")]
        noisy = sum(not turn["quiet"] for turn in process.turns)
        row = dict(case=case, name=name, ms=1e3 * statistics.median(process.times), ratio=statistics.median(ratios))
        row |= dict(low=min(ratios), high=max(ratios), first=process.first, peak=process.turns[-1]["peak"], noisy=noisy)
        print(
            "{name:44s} {ms:9.3f} {ratio:6.2f} {low:5.2f}..{high:<4.2f} {first:8.1f} {peak:8.2f} {noisy:5d}".format(
                **row
            )
        )
        rows.append(row)
    sys.stdout.flush()
    return rows


def _asked(part: str, name: str, variants: Iterable[str]) -> bool:
    """Whether ``part`` asks for the variant ``name``: a whole name means that variant alone."""
    return part == name if part in variants else part in name


def main() -> None:
    """Run the cases that this module's caller registered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", help="only cases with one of these in their name")
    parser.add_argument("--only", nargs="*", default=[], help="only these variants, by name or part of it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--log", help="file to which a JSON line a variant is appended")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _worker(*args.worker)
        return
    for case, variants in CASES.items():
        if args.cases and not any(part in case for part in args.cases):
            continue
        names = [name for name in variants if not args.only or any(_asked(part, name, variants) for part in args.only)]
        rows = run_case(case, names, args.rounds, args.seconds)
        if args.log:
            with open(args.log, "a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
