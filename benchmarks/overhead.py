"""What the trainer adds to a step of 20 ms and more: suite.trainer.fit beside its own compiled step, called bare.

The model and batch of text.sst2_encoder on texts in memory, each of 64 tokens. The trainer reads, tokenises, pads,
moves and logs; the bare step is given one batch on the device again and again. The ratio is bare over trainer: 0.95
is an overhead of 5 %.

    python -m benchmarks.overhead
"""

import tempfile
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

if __name__ == "__main__":
    main()
