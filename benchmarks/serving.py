"""Serving MiniLM, two classes, from a second process on loopback: batches against one by one, and against PyTorch.

Texts are the sentences of SST-2's validation split, one a request. The server and the load share this machine's cores.

    python -m benchmarks.serving                    # requests a second and latencies: ours, ours one by one, PyTorch
    python -m benchmarks.serving --swap             # 10,000 requests, a new version and a SIGTERM among them
    python -m benchmarks.serving --soak 600         # ten minutes: memory
    python -m benchmarks.serving --bundle BUNDLE    # any of them with a bundle of yours for SST-2, --swap with two

Without --bundle, the recipe text.sst2_minilm_10k is trained for a few steps and exported: what it says is then worth
little, and takes as long as ever. Needs the packages of the extra bench and the prepared glue/sst2 (TFDS_DATA_DIR).
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

RECIPE, NAME = "text.sst2_minilm_10k", "sst2"
SIZES = "1,2,4,8,16,32"
BOUND = 5.0
"""Times the latency of a single request that the 99th percentile may take."""
TOLERANCE = 0.03
"""How far a probability may lie from the same version's answer to the text alone: bfloat16, other batches."""
ATTEMPTS = 3


def texts() -> list[str]:
    """The sentences that are asked."""
    import suite

    task = suite.load(RECIPE).task
    source = task.source("validation")
    return [str(text) for text in source[np.arange(len(source))][task.text]]


def made_bundle(folder: Path, seed: int) -> Path:
    """A bundle of the recipe after a few steps."""
    import suite
    from suite.exporting.exporting import export

    experiment = suite.replace(
        suite.load(RECIPE), {"train.steps": 20 * (1 + seed), "train.seed": seed, "optim.warmup_steps": 2}
    )
    run = suite.train(experiment, folder / f"run-{seed}")
    export(run, folder / f"bundle-{seed}", name=NAME)
    return folder / f"bundle-{seed}"


def in_child(code: str, *arguments: str) -> None:
    """Run one of this module's functions where it leaves no JAX behind."""
    command = [sys.executable, "-c", f"import sys; from benchmarks import serving; {code}", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def bundles(given: list[str], folder: Path, count: int) -> list[Path]:
    """``count`` bundles, the first of them those that are given."""
    made = [Path(each) for each in given]
    for seed in range(len(made), count):
        in_child(
            "from pathlib import Path; serving.made_bundle(Path(sys.argv[1]), int(sys.argv[2]))", str(folder), str(seed)
        )
        made.append(folder / f"bundle-{seed}")
    return made


@contextmanager
def server(command: list[str], ready: str) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own, from the line in which it says that it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(ready):
                break
        else:
            raise RuntimeError(f"{' '.join(command)} ended with {process.wait()}")
        yield process
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def ours(bundle: Path, port: int, sizes: str) -> list[str]:
    """The command that serves a bundle."""
    return [
        sys.executable,
        "-m",
        "suite",
        "serve",
        f"{NAME}={bundle}",
        "--port",
        str(port),
        "--watch-s",
        "0.5",
        "--sizes",
        *sizes.split(","),
    ]


def theirs(port: int, sizes: str, *more: str) -> list[str]:
    """The command that serves the peer's model."""
    import suite

    folder = suite.load(RECIPE).checkpoint.init_from
    return [sys.executable, "-m", "benchmarks.torch_server", folder, str(port), sizes, *more]


def load(port: int, path: str, bodies: list[str], **how: Any) -> dict[str, Any]:
    """What a second process finds."""
    target = {"host": "127.0.0.1", "port": port, "path": path, "bodies": bodies, **how}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(target, file)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", file.name], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def compare(bundle: Path, seconds: float, closed: list[int], peers: list[str]) -> None:
    """Closed loops of more and more clients, then open ones, against each server."""
    asked, port = texts(), free_port()
    path = f"/v1/models/{NAME}:predict"
    sides = {
        "ours": (ours(bundle, port, SIZES), "serving", path),
        "ours, one by one": (ours(bundle, port, "1"), "serving", path),
        "torch": (theirs(port, SIZES), "ready", "/predict"),
        "torch.compile": (theirs(port, SIZES, "--compile"), "ready", "/predict"),
    }
    best: dict[str, dict[str, Any]] = {}
    columns = ("a second", "p50 ms", "p90", "p99", "max", "cpu ms")
    print(f"{'server':18s} {'load':>14s} {columns[0]:>9s} " + " ".join(f"{each:>7s}" for each in columns[1:]))
    for side, (command, ready, address) in sides.items():
        if side.startswith("torch") and side not in peers:
            continue
        with server(command, ready) as process:
            pid = process.pid
            measured = lambda pid=pid, address=address, **how: busy(
                pid, lambda: load(port, address, asked, seconds=seconds, **how)
            )
            load(port, address, asked, clients=8, seconds=2.0)
            single = 0.0
            for clients in closed:
                found = measured(clients=clients)
                say(side, f"{clients} clients", found)
                single = single or found["p50"]
                if found["p99"] <= BOUND * single and found["rate"] > best.get(side, found)["rate"] - 1e-9:
                    best[side] = {**found, "clients": clients, "single": single}
            for share in (0.5, 0.8):
                rate = share * best[side]["rate"]
                say(side, f"{rate:.0f} a s, open", measured(clients=0, rate=rate))
    print(f"\nfastest with p99 <= {BOUND:g} times the median of a single client:")
    for side, found in best.items():
        ratio = best["ours"]["rate"] / found["rate"]
        print(
            f"{side:18s} {found['rate']:7.0f} a second at {found['clients']} clients, p99 {found['p99']:.1f} ms = "
            f"{found['p99'] / found['single']:.1f} x {found['single']:.1f} ms; ours / this: {ratio:.2f}"
        )


def busy(process: int, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``run`` finds, and the processor's milliseconds that the server took for each answer meanwhile."""
    used = lambda: sum(psutil.Process(process).cpu_times()[:2])
    before = used()
    found = run()
    return {**found, "cpu": 1e3 * (used() - before) / max(found["answered"], 1)}


def say(side: str, how: str, found: dict[str, Any]) -> None:
    """One line of the table."""
    wrong = {code: count for code, count in found["codes"].items() if code != "200"}
    note = f"  {wrong}" if wrong or found["lost"] else ""
    print(
        f"{side:18s} {how:>14s} {found['rate']:9.0f} {found['p50']:7.1f} {found['p90']:7.1f} {found['p99']:7.1f} "
        f"{found['max']:7.1f} {found['cpu']:7.2f}{note}",
        flush=True,
    )


def expected(folder: str, asked: list[str]) -> dict[str, Any]:
    """A bundle's version, and the probability of "positive" that it gives each text by itself."""
    code = (
        "import json; from suite.bundles.bundle import Bundle; made = Bundle.open(sys.argv[1]); "
        "texts = json.load(sys.stdin); "
        "print(json.dumps({'version': made.version, 'shares': [made.predict([t])[0]['top']['positive'] "
        "for t in texts]}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}", folder],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def swap(first: Path, second: Path, requests: int) -> bool:
    """A new version and a SIGTERM among the requests; whether each was answered, by the version it names."""
    asked, port = texts()[:200], free_port()
    known = {made["version"]: made["shares"] for made in (expected(str(each), asked) for each in (first, second))}
    with tempfile.TemporaryDirectory() as place:
        link = Path(place) / "current"
        link.symlink_to(first.resolve())
        results: list[dict[str, Any]] = []
        command = ours(link, port, SIZES)
        with server(command, "serving") as process:
            asking = threading.Thread(
                target=lambda: results.append(
                    load(port, f"/v1/models/{NAME}:predict", asked, clients=16, requests=requests, answers=True)
                )
            )
            asking.start()
            time.sleep(2)
            fresh = Path(place) / "next"
            fresh.symlink_to(second.resolve())
            os.replace(fresh, link)
            while version_at(port) != list(known)[1]:
                time.sleep(0.1)
            print("a new version answers")
            time.sleep(2)
            if not asking.is_alive():
                print("all requests were over before the SIGTERM: ask for more")
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            print(f"SIGTERM: ended with {code}")
        with server(command, "serving"):
            asking.join()
    found = results[0]
    by_version: dict[str, int] = {}
    wrong = 0
    for place_, body in found["answers"]:
        made = json.loads(body)
        by_version[made.get("version", "none")] = by_version.get(made.get("version", "none"), 0) + 1
        share = made.get("answers", [{"top": {}}])[0]["top"].get("positive", -1)
        wrong += abs(share - known.get(made.get("version"), [9] * len(asked))[place_]) > TOLERANCE
    print(
        f"{found['answered']} answered, {wrong} wrong, {found['lost']} lost without an answer; "
        f"by version {by_version}; statuses {found['codes']}; slowest {found['max']:.0f} ms"
    )
    return not (wrong or found["lost"] or code) and len(by_version) == 2 and found["answered"] == requests


def version_at(port: int) -> str:
    """The version that answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/{NAME}") as answer:
        return str(json.load(answer)["version"])


def soak(bundle: Path, seconds: float) -> bool:
    """Memory of the server under load; whether its second half lies flat."""
    asked, port = texts(), free_port()
    curve: list[tuple[float, float]] = []
    with server(ours(bundle, port, SIZES), "serving") as process:
        done: list[dict[str, Any]] = []
        asking = threading.Thread(
            target=lambda: done.append(load(port, f"/v1/models/{NAME}:predict", asked, clients=12, seconds=seconds))
        )
        begun = time.perf_counter()
        asking.start()
        while asking.is_alive():
            curve.append((time.perf_counter() - begun, resident(process.pid)))
            asking.join(max(seconds / 120, 0.5))
    for at, mib in curve[:: max(len(curve) // 20, 1)]:
        print(f"{at:6.0f} s {mib:8.1f} MiB")
    half = np.array(curve[len(curve) // 2 :])
    slope = 60 * np.polyfit(half[:, 0], half[:, 1], 1)[0]
    growth = half[-1, 1] / half[0, 1] - 1
    print(
        f"{done[0]['answered']} answered, {done[0]['rate']:.0f} a second, p99 {done[0]['p99']:.1f} ms; second half: "
        f"{100 * growth:+.2f} %, {slope:+.2f} MiB a minute"
    )
    return growth < 0.01


def resident(process: int) -> float:
    """MiB of memory that a process holds."""
    fields = Path(f"/proc/{process}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", nargs="*", default=[], help="of a classifier of SST-2; two of them for --swap")
    parser.add_argument("--swap", action="store_true")
    parser.add_argument("--requests", type=int, default=10_000, help="of --swap")
    parser.add_argument("--soak", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 2, 4, 8, 12, 16, 24, 32])
    parser.add_argument("--peers", nargs="*", default=["torch", "torch.compile"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = bundles(args.bundle, Path(folder), 2 if args.swap else 1)
        if args.swap:
            sys.exit(not swap(made[0], made[1], args.requests))
        if args.soak:
            sys.exit(not soak(made[0], args.soak))
        compare(made[0], args.seconds, args.clients, args.peers)


if __name__ == "__main__":
    main()
