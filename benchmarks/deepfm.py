"""A training step of DeepFM: 26 fields, batch 4096, embeddings of 16, a DNN of 400-400-400, Adam.

The first cases: 100,000 rows a field, beside PyTorch with dense gradients and Adam, with sparse gradients and
SparseAdam, and with torch.compile, in float32 and in bfloat16 (the DNN). The last: ours with 260 thousand and with 26
million rows in all. Ids are drawn evenly, so hardly any row repeats: the worst case of an update by rows.

    python -m benchmarks.deepfm
"""

import numpy as np

from benchmarks.harness import main, variant

BATCH, FIELDS, WIDTH, HIDDEN, STEPS = 4096, 26, 16, (400, 400, 400), 8
ROWS = 100_000
CASE = "DeepFM 26 x 100,000 rows b4096 {} train step"
SIZES = "DeepFM b4096 float32 train step by rows of the table"


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """``STEPS`` batches: row numbers in the stack of ``rows`` a field (steps, b, f), labels (steps, b)."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, rows, (STEPS, BATCH, FIELDS)) + np.arange(FIELDS) * rows
    return ids.astype(np.int32), rng.integers(0, 2, (STEPS, BATCH)).astype(np.float32)


def ours(rows: int, compute: str):
    """The trainer's own step and a state, on batches of made-up ids."""
    import jax

    from suite.experiment.sections import Experiment, Optim, Precision, Train
    from suite.models import deepfm
    from suite.runtime import allocation
    from suite.tasks.recommendation.click import ClickPrediction
    from suite.training.assemble import assemble

    allocation.keep_memory()
    model = deepfm.Config(rows=rows * FIELDS, fields=FIELDS, width=WIDTH, hidden=HIDDEN)
    program = assemble(
        Experiment(
            name="benchmark",
            task=ClickPrediction(data=None),
            model=model,
            optim=Optim(schedule="constant"),
            train=Train(batch_size=BATCH),
            precision=Precision(compute=compute),
        ),
        total_steps=1000,
    )
    state, i = program.init(), 0
    empty = np.zeros((1, BATCH, 0), np.float32)
    batches = [
        {"ids": ids[None], "label": labels[None], "dense": empty, "weights": empty, "mask": np.ones((1, BATCH), bool)}
        for ids, labels in zip(*data(rows), strict=True)
    ]
    batches = jax.device_put(batches)

    def run():
        nonlocal state, i
        i = (i + 1) % STEPS
        state, tallies = program.step(state, batches[i])
        return float(tallies["loss"].total)

    return run


def peer(sparse: bool, compiled: bool, autocast: bool):
    """The same model in PyTorch: embeddings and first-order weights in one table of 17 columns."""
    import torch
    from torch import nn

    class DeepFM(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(ROWS * FIELDS, WIDTH + 1, sparse=sparse)
            nn.init.normal_(self.table.weight, std=0.01)
            widths = (FIELDS * WIDTH, *HIDDEN)
            layers = [part for i, o in zip(widths, HIDDEN, strict=False) for part in (nn.Linear(i, o), nn.ReLU())]
            self.deep = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1))

        def forward(self, ids):
            rows = self.table(ids)
            first, v = rows[..., WIDTH].sum(1), rows[..., :WIDTH]
            second = 0.5 * (v.sum(1).square().sum(1) - v.square().sum((1, 2)))
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                deep = self.deep(v.flatten(1))
            return first + second + deep[:, 0].float()

    model = DeepFM()
    rest = list(model.deep.parameters())
    tables = torch.optim.SparseAdam([model.table.weight]) if sparse else None
    dense = torch.optim.Adam(rest if sparse else model.parameters(), fused=True)
    forward = torch.compile(model) if compiled and not sparse else model
    if compiled and sparse:  # a graph with a sparse gradient in it does not compile
        model.deep = torch.compile(model.deep)
    ids, labels = map(torch.tensor, data(ROWS))
    ids, i = ids.long(), 0

    def run():
        nonlocal i
        i = (i + 1) % STEPS
        for optimizer in filter(None, (dense, tables)):
            optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.binary_cross_entropy_with_logits(forward(ids[i]), labels[i])
        loss.backward()
        for optimizer in filter(None, (dense, tables)):
            optimizer.step()
        return loss.item()

    return run


for _compute in ("float32", "bfloat16"):
    _case, _narrow = CASE.format(_compute), _compute == "bfloat16"
    variant(_case, "ours")(lambda compute=_compute: ours(ROWS, compute))
    variant(_case, "torch eager, dense")(lambda narrow=_narrow: peer(False, False, narrow))
    variant(_case, "torch eager, sparse")(lambda narrow=_narrow: peer(True, False, narrow))
    variant(_case, "torch.compile, dense")(lambda narrow=_narrow: peer(False, True, narrow))
    variant(_case, "torch.compile of the DNN, sparse")(lambda narrow=_narrow: peer(True, True, narrow))
variant(SIZES, "ours, 260,000 rows")(lambda: ours(10_000, "float32"))
variant(SIZES, "ours, 26,000,000 rows")(lambda: ours(1_000_000, "float32"))

if __name__ == "__main__":
    main()
