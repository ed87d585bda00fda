"""Overhead of the trainer at steps of 20 ms and more: trainer.fit beside its own compiled step, called bare.

The model and batch of text.sst2_encoder on texts in memory, each of 64 tokens. The trainer reads, tokenises, pads,
moves and logs; the bare step is given one batch on the device again and again. The ratio is bare over trainer: 0.95
is an overhead of 5 %.

`devices` is about weak scaling: the loop beside its bare step on 1, 2, 4 and 8 simulated devices with as many rows
each, and the share of a step that is spent outside the compiled step. Each number of devices has a process of its own,
in which loop and bare steps take turns. `processes`: the same for 1, 2 and 4 processes of one device.

    python -m benchmarks.overhead
    python -m benchmarks.overhead devices
    python -m benchmarks.overhead processes
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import main, variant
from benchmarks.loop import paced

TEXTS, WORDS, STEPS = 8_000, 100, 10


def experiment(compute: str) -> Any:
    import suite
    from suite.data.sources.datasets import Table

    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), rng.integers(2, 8))) for _ in range(2000)]
    path = Path(tempfile.mkdtemp()) / "texts.csv"
    lines = (f"{' '.join(rng.choice(words, WORDS))},{('no', 'yes')[i % 2]}\n" for i in range(TEXTS))
    path.write_text("sentence,label\n" + "".join(lines))
    changes = {"task.data": Table(path=str(path)), "task.tokenizer.vocab_size": 4000, "pipeline.buckets": (64,)}
    changes |= {"precision.compute": compute, "train.log_every": STEPS}
    return suite.replace(suite.load("text.sst2_encoder"), changes)


def bare(compute: str):
    import jax

    from suite.data.pipeline.dispatches import Encoder, make_plan
    from suite.runtime import allocation
    from suite.training.assemble import assemble
    from suite.training.preprocessors import prepare

    allocation.keep_memory()
    recipe = experiment(compute)
    source = recipe.task.source("train")
    bound = prepare(recipe, Path(tempfile.mkdtemp()), source)
    plan = make_plan(bound.task, source, bound.train.batch_size, seed=0, buckets=bound.pipeline.buckets)
    program = assemble(bound, 10**7)
    batch = jax.device_put(Encoder(bound.task, source, plan, augment=True)((0, 1))["batch"])
    state = program.init()

    def run() -> None:
        nonlocal state
        for _ in range(STEPS):
            state, tallies = program.step(state, batch)
        jax.block_until_ready(tallies)

    return run, STEPS


for compute in ("float32", "bfloat16"):
    case = f"encoder of text.sst2_encoder, b64x64, {compute}: a step"
    variant(case, "ours, the trainer")(lambda compute=compute: paced(experiment(compute), STEPS))
    variant(case, "bare jitted step")(lambda compute=compute: bare(compute))

ROWS, WINDOW, WINDOWS = 64, 10, 12
"""Rows a device; steps between two lines of the log, which a window lasts; windows that are measured."""


def in_turn() -> tuple[list[float], list[float]]:
    """Seconds a step on all devices, of the bare compiled step and of the loop, window by window.

    The loop has just logged when a window of bare steps begins, so nothing of it is still being computed.
    """
    import jax

    import suite
    from suite.data.pipeline.dispatches import dispatches, to_device
    from suite.parallel import hosts
    from suite.parallel.batch_shards import own_part, placer
    from suite.training import trainer

    steps = WINDOW * (WINDOWS + 3)
    changes = {
        "train.batch_size": ROWS * jax.device_count(),
        "train.steps": steps,
        "train.steps_per_dispatch": 1,
        "train.log_every": WINDOW,
        "train.eval_every": steps,
        "model.hidden": (1024, 512),
    }
    experiment = suite.replace(suite.load("vision.digits_dnn"), changes)
    held: dict[str, Any] = {}
    bare: list[float] = []
    loop: list[float] = []

    def prepared(folder: Path) -> None:
        from suite.data.pipeline.dispatches import Encoder, make_plan
        from suite.training.preprocessors import prepare

        source = experiment.task.source("train")
        bound = prepare(experiment, folder, source)
        plan = make_plan(bound.task, source, bound.train.batch_size, seed=0)
        program = trainer.assemble(bound, steps)
        part = own_part(program.mesh, plan.batch_size)
        items = dispatches(Encoder(bound.task, source, plan, True, None if part is None else part.rows), 0, 2)
        _, batch = next(to_device(items, placer(program.mesh, part, leading=1)))
        held.update(program=program, batch=batch, state=program.init())

    def bare_steps() -> None:
        begun = time.perf_counter()
        for _ in range(WINDOW):
            held["state"], tallies = held["program"].step(held["state"], held["batch"])
        jax.block_until_ready((held["state"], tallies))
        bare.append((time.perf_counter() - begun) / WINDOW)

    def on_dispatch(item: Any) -> None:
        if item.first % WINDOW:
            return
        if "since" in held:
            loop.append((time.perf_counter() - held["since"]) / WINDOW)
        if not held:
            prepared(Path(tempfile.mkdtemp()))
        bare_steps()
        held["since"] = time.perf_counter()

    trainer.fit(experiment, Path(hosts.agreed(tempfile.mkdtemp)), on_dispatch=on_dispatch)
    return bare[3:], loop[2:]


def _child() -> None:
    """One process of those that measure; the first one prints."""
    from suite.parallel import hosts, rendezvous

    with rendezvous.joined(rendezvous.find_place({})):
        found = in_turn()
        if hosts.is_first():
            print(json.dumps(found))


def scaled(counts: Sequence[int], processes: bool, rounds: int = 2) -> dict[int, tuple[float, float]]:
    """Milliseconds a step, bare and in the loop, for each number of devices, which one process has or of which each has
    a process: medians of all windows."""
    windows: dict[int, list[list[float]]] = {count: [[], []] for count in counts}
    for _ in range(rounds):
        for count in counts:
            for held, times in zip(windows[count], _measured(count, processes), strict=True):
                held += times
    return {
        count: (1e3 * statistics.median(bare), 1e3 * statistics.median(loop)) for count, (bare, loop) in windows.items()
    }


def _measured(count: int, processes: bool) -> list[list[float]]:
    command = [sys.executable, "-c", "from benchmarks.overhead import _child; _child()"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    if not processes:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
        places: list[dict[str, str]] = [{}]
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        places = (
            [
                {"SUITE_COORDINATOR": address, "SUITE_PROCESSES": str(count), "SUITE_PROCESS": str(i)}
                for i in range(count)
            ]
            if count > 1
            else [{}]
        )
    children = [
        subprocess.Popen(
            command, env={**environment, **place}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for place in places
    ]
    said = [child.communicate() for child in children]
    if any(child.returncode for child in children):
        raise RuntimeError(said[0][1][-2000:])
    return json.loads(said[0][0].splitlines()[-1])


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what in ("devices", "processes"):
        counts = (1, 2, 4, 8) if what == "devices" else (1, 2, 4)
        for count, (bare, loop) in scaled(counts, what == "processes").items():
            print(
                f"{count} {what}, {ROWS} rows each: a step takes {bare:.2f} ms bare, {loop:.2f} ms in the loop, "
                f"{100 * (1 - bare / loop):.1f} % of it outside the compiled step"
            )
    else:
        main()
