"""Ranking a whole catalogue: time and memory from 100,000 to 10,000,000 items, and answers of a server over 1,000,000.

Tables are random, 64 wide, in float32; the 50 best items of 1 and of 32 users, of whom 50 items each are left out.
Memory is what the compiled program holds besides its arguments, as XLA states it.

    python -m benchmarks.ranking                          # the table of sizes, each in a process of its own
    python -m benchmarks.ranking --serve --seconds 20     # a bundle of recommendation.sequence over 1,000,000 items
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = (100_000, 1_000_000, 10_000_000)
USERS = (1, 32)
WIDTH, SEEN, PLACES = 64, 50, 50
CALLS, SECONDS = 15, 20.0
"""Calls that are timed, as many as fit in the seconds, 3 at least."""
NAME = "catalogue"


def measured(count: int, users: int) -> dict[str, float]:
    """Milliseconds of a ranking, median and slowest, and MiB of what the program holds besides the table."""
    import jax
    import jax.numpy as jnp

    from suite.data.preprocessing.items import FIRST
    from suite.evaluation.recommendation import best_items

    rng = np.random.default_rng(0)
    table = jax.random.normal(jax.random.key(0), (FIRST + count, WIDTH), jnp.float32).block_until_ready()
    seen = jnp.asarray(rng.integers(FIRST, FIRST + count, (users, SEEN)), jnp.int32)
    vectors = jnp.asarray(rng.normal(size=(users, WIDTH)), jnp.float32)
    program = jax.jit(best_items, static_argnums=3).lower(vectors, table, seen, PLACES).compile()
    times = []
    started = time.perf_counter()
    while len(times) < CALLS and (len(times) < 3 or time.perf_counter() - started < SECONDS):
        begun = time.perf_counter()
        jax.block_until_ready(program(vectors, table, seen))
        times.append(1000 * (time.perf_counter() - begun))
    temporary = program.memory_analysis().temp_size_in_bytes / 2**20
    return {"median": float(np.median(times)), "slowest": max(times), "program": temporary}


def sizes() -> None:
    """The table of sizes."""
    print("items        users   ms, median   slowest   besides the table, MiB")
    for count in SIZES:
        for users in USERS:
            command = [sys.executable, "-m", "benchmarks.ranking", "--items", str(count), "--users", str(users)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(
                f"{count:>10,}  {users:>6}  {found['median']:>11.1f}  {found['slowest']:>8.1f}  "
                f"{found['program']:>23.1f}",
                flush=True,
            )


def made_bundle(folder: Path, count: int) -> Path:
    """A bundle of the recipe for own events after one step over a catalogue of ``count`` items."""
    import suite
    from suite.data.sources.datasets import Table
    from suite.exporting.exporting import export

    log, rng = folder / "events.csv", np.random.default_rng(0)
    items = rng.permutation(count)
    with open(log, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time"])
        writer.writerows((place // 50, f"item{item}", place) for place, item in enumerate(items.tolist()))
    changes = {
        "task.data": Table(path=str(log)),
        "task.time": "time",
        "task.negatives": 512,
        "train.steps": 1,
        "train.eval_every": 10**6,
        "train.batch_size": 16,
        "train.loggers": (),
        "train.baseline": False,
        "task.split.by": "random",
        "task.split.test": 0.001,
        "task.split.validation": 0.001,
    }
    run = suite.train(suite.replace(suite.load("recommendation.sequence"), changes), folder / "run")
    export(run, folder / "bundle", name=NAME)
    names = run.experiment.task.items.names  # type: ignore[attr-defined]
    histories = [[names[item] for item in rng.integers(0, len(names), rng.integers(1, 50))] for _ in range(200)]
    (folder / "bodies.json").write_text(json.dumps([{"history": history} for history in histories]))
    return folder / "bundle"


def serve(count: int, seconds: float, clients: list[int]) -> None:
    """Requests a second and latencies of a server over ``count`` items, by how many ask at a time."""
    from benchmarks import serving

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = "import sys; from pathlib import Path; from benchmarks import ranking; "
        code += "ranking.made_bundle(Path(sys.argv[1]), int(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", code, name, str(count)], check=True, stdout=subprocess.DEVNULL)
        port = serving.free_port()
        command = [sys.executable, "-m", "suite", "serve", f"{NAME}={folder / 'bundle'}", "--port", str(port)]
        bodies = json.loads((folder / "bodies.json").read_text())
        with serving.server([*command, "--sizes", "1", "4", "16"], "serving"):
            for asking in clients:
                found = serving.load(port, f"/v1/models/{NAME}:predict", bodies, clients=asking, seconds=seconds)
                print(asking, json.dumps({key: value for key, value in found.items() if key != "answers"}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=0, help="one size alone")
    parser.add_argument("--users", type=int, default=1, help="with --items")
    parser.add_argument("--serve", action="store_true", help="the server")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8], help="who ask at a time")
    given = parser.parse_args()
    if given.serve:
        print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)
        serve(given.items or 1_000_000, given.seconds, given.clients)
    elif given.items:
        print(json.dumps(measured(given.items, given.users)))
    else:
        print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)
        sizes()
