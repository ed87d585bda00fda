"""Reading 60,000 images of 784 bytes in shuffled batches of 128, on the host alone: what feeds the small network.

Ours: the image task's ``encode`` through suite.data.pipeline, one batch a dispatch and 50 (the recipe's). Peer:
a DataLoader over a TensorDataset of the same arrays. A step is one epoch, so a ms figure is for 60,000 examples; each
batch is touched, so that nothing is left undone.

    python -m benchmarks.pipeline
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import main, variant

SIZE, BATCH = 60_000, 128
CASE = "60,000 images of 784 bytes, shuffled, b128: one epoch of the input pipeline"


def data() -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28, 1) uint8 and labels (n,)."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (SIZE, 28, 28, 1), np.uint8), rng.integers(0, 10, SIZE)


def ours(steps: int):
    from suite.contracts.data import Data
    from suite.data.pipeline.dispatches import Encoder, dispatches, make_plan
    from suite.data.preprocessing.image import PixelStatistics
    from suite.data.preprocessing.labels import Labels
    from suite.data.sources.memory import Memory
    from suite.tasks.vision.classification import ImageClassification

    class Arrays(Data):
        def open(self, split: str) -> Memory:
            schema, names = {"image": "image", "label": "class"}, {"label": list("0123456789")}
            return Memory(dict(zip(("image", "label"), data(), strict=True)), schema, names)

    source, folder = Arrays().open("train"), Path(tempfile.mkdtemp())
    PixelStatistics().fit(source, "image", folder / "statistics.json")
    Labels().fit(source, "label", folder / "labels.json")
    task = ImageClassification(
        data=Arrays(),
        labels=Labels(file=str(folder / "labels.json")),
        statistics=PixelStatistics(file=str(folder / "statistics.json")),
    )
    plan = make_plan(task, source, BATCH, seed=0)
    encoder, epoch = Encoder(task, source, plan, augment=True), -1

    def run():
        nonlocal epoch
        epoch += 1
        first, count = epoch * plan.batches_per_epoch, 0
        for item in dispatches(encoder, first, first + plan.batches_per_epoch, steps):
            count += int(item.batch["mask"].sum())
        assert count == SIZE

    return run


def torch_loader(workers: int):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    dataset = TensorDataset(*map(torch.tensor, data()))
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def run():
        assert sum(len(labels) for _, labels in loader) == SIZE

    return run


for steps in (1, 50):
    variant(CASE, f"ours, {steps} batch{'es' * (steps > 1)} a dispatch")(lambda steps=steps: ours(steps))
for workers in (0, 2):
    variant(CASE, f"torch DataLoader, {workers} workers")(lambda workers=workers: torch_loader(workers))

if __name__ == "__main__":
    main()
