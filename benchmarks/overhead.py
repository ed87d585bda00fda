"""What the trainer adds to a step of 20 ms and more: suite.trainer.fit beside its own compiled step, called bare.

The model and batch of text.sst2_encoder on texts in memory, each of 64 tokens. The trainer reads, tokenises, pads,
moves and logs; the bare step is given one batch on the device again and again. The ratio is bare over trainer: 0.95
is an overhead of 5 %.

`devices` is about weak scaling: what the loop does outside the compiled step, on 1, 2, 4 and 8 simulated devices with
as many rows each, in microseconds a step. Each number of devices has a process of its own, and they take turns.

    python -m benchmarks.overhead
    python -m benchmarks.overhead devices
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import main, variant
from benchmarks.loop import paced

TEXTS, WORDS, STEPS = 8_000, 100, 10


def experiment(compute: str) -> Any:
    import suite
    from suite.data.sources import Table

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

    from suite import precision
    from suite.assets import prepare
    from suite.data.pipeline import Encoder, make_plan
    from suite.trainer import assemble

    precision.keep_memory()
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

ROWS, WINDOW, WINDOWS = 16, 20, 12
"""Rows a device; steps between two lines of the log, which a window lasts; windows that are measured."""


def outside_the_step() -> list[float]:
    """Seconds a step that the loop spends outside the compiled step on all devices of this process, window by window.

    The compiled step is waited for, so that none of its work is left to what is measured.
    """
    import jax

    import suite
    from suite import trainer

    inside, marks = 0.0, []
    assemble = trainer.assemble

    def timed(step: Any) -> Any:
        def call(state: Any, batch: Any) -> Any:
            nonlocal inside
            jax.block_until_ready(batch)
            begun = time.perf_counter()
            made = jax.block_until_ready(step(state, batch))
            inside += time.perf_counter() - begun
            return made

        return call

    def on_dispatch(item: Any) -> None:
        if item.first % WINDOW == 0:
            marks.append((time.perf_counter(), inside))

    def with_a_timed_step(*arguments: Any) -> Any:
        program = assemble(*arguments)
        return dataclasses.replace(program, step=timed(program.step))

    steps = WINDOW * (WINDOWS + 2)
    changes = {"train.batch_size": ROWS * jax.device_count(), "train.steps": steps, "train.steps_per_dispatch": 1,
               "train.log_every": WINDOW, "train.eval_every": steps, "model.hidden": (512, 512)}  # fmt: skip
    trainer.assemble = with_a_timed_step
    try:
        trainer.fit(suite.replace(suite.load("vision.digits_dnn"), changes), Path(tempfile.mkdtemp()),
                    on_dispatch=on_dispatch)  # fmt: skip
    finally:
        trainer.assemble = assemble
    spans = [(b[0] - a[0]) - (b[1] - a[1]) for a, b in zip(marks[1:], marks[2:], strict=False)]
    return [span / WINDOW for span in spans]


def by_devices(counts: tuple[int, ...] = (1, 2, 4, 8), rounds: int = 3) -> dict[int, float]:
    """Microseconds a step outside the compiled step, the median of all windows, for each number of devices."""
    windows: dict[int, list[float]] = {count: [] for count in counts}
    program = "from benchmarks.overhead import outside_the_step as f; print(*f())"
    for _ in range(rounds):
        for count in counts:
            environment = {**os.environ, "JAX_PLATFORMS": "cpu",
                           "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}  # fmt: skip
            done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True,
                                  check=True)  # fmt: skip
            windows[count] += map(float, done.stdout.splitlines()[-1].split())
    return {count: 1e6 * statistics.median(times) for count, times in windows.items()}


if __name__ == "__main__":
    if sys.argv[1:] == ["devices"]:
        for count, microseconds in by_devices().items():
            print(f"{count} devices, {ROWS} rows each: {microseconds:.0f} µs a step outside the compiled step")
    else:
        main()
