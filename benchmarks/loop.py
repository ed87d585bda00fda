"""The whole training loop as a user runs it: the 784-128-10 network on 60,000 images, data and logging included.

Ours: suite.training.trainer.fit on the recipe vision.fashion_mnist_dnn, with its dropout and moving average; without
them, as the peer's loop; and with the peer's more frequent logging. Peer: nn.Sequential, fused Adam, a DataLoader over
a TensorDataset and loss.item() once in 50 steps; images normalised a batch at a time, or all of them beforehand.
Importing, compiling, evaluation and checkpoints are left out on both sides. Images are random: speed is all that is
measured here. Figures are for one step of 128 images.

    python -m benchmarks.loop
"""

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import main, variant

SIZE, BATCH = 60_000, 128
CASE = "784-128-10 b128: the whole training loop, a step"


def data() -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) uint8 and labels (n,)."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (SIZE, 28, 28), np.uint8), rng.integers(0, 10, SIZE)


def paced(experiment: Any, steps: int):
    """A function that lets ``trainer.fit`` go on by ``steps`` steps, and waits until they are done and logged.

    ``steps`` is a multiple of ``train.log_every``, as a line of the log waits for the device. The loop runs in a
    thread of its own and stops before each dispatch for which it has no leave.
    """
    from suite.training import trainer

    experiment = trainer_settings(experiment)
    leave, arrived = threading.Semaphore(0), threading.Semaphore(0)
    failure: list[BaseException] = []

    def on_dispatch(item: Any) -> None:
        if item.first % steps == 0:
            arrived.release()
            leave.acquire()

    def work() -> None:
        try:
            trainer.fit(experiment, Path(tempfile.mkdtemp()), on_dispatch=on_dispatch)
        except BaseException as error:
            failure.append(error)
            arrived.release()

    threading.Thread(target=work, daemon=True).start()
    arrived.acquire()

    def run() -> None:
        leave.release()
        arrived.acquire()
        if failure:
            raise failure[0]

    return run, steps


def trainer_settings(experiment: Any) -> Any:
    """The experiment without an end, without evaluations and checkpoints."""
    from suite.experiment.sections import replace

    return replace(experiment, {"train.steps": 10**7, "train.eval_every": 10**7})


def ours(changes: dict[str, Any]):
    import suite
    from suite.data.sources.datasets import ArrayFile

    path = Path(tempfile.mkdtemp()) / "images.npz"
    images, labels = data()
    np.savez(path, images_train=images, label_train=labels)
    changes = {"task.data": ArrayFile(path=str(path), validation=0.05), **changes}
    return paced(suite.replace(suite.load("vision.fashion_mnist_dnn"), changes), 600)


PLAIN = {"train.ema": 0.0, "model.dropout": 0.0}
variant(CASE, "ours, the recipe, logged every 200 steps")(lambda: ours({}))
variant(CASE, "ours, no dropout, no EMA, every 200 steps")(lambda: ours(PLAIN))
variant(CASE, "ours, no dropout, no EMA, every 50 steps")(lambda: ours({**PLAIN, "train.log_every": 50}))


def torch_loop(workers: int, beforehand: bool):
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    images, labels = map(torch.tensor, data())
    mean, std = 0.5, 0.29

    def normalise(x):
        return (x.float() / 255 - mean) / std

    dataset = TensorDataset(normalise(images) if beforehand else images, labels)
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def run():
        for i, (x, y) in enumerate(loader):
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model(x if beforehand else normalise(x)), y)
            loss.backward()
            optimizer.step()
            if i % 50 == 0:
                loss.item()

    return run, len(loader)


variant(CASE, "torch, DataLoader, 0 workers")(lambda: torch_loop(0, False))
variant(CASE, "torch, DataLoader, 2 workers")(lambda: torch_loop(2, False))
variant(CASE, "torch, DataLoader, normalised beforehand")(lambda: torch_loop(0, True))

if __name__ == "__main__":
    main()
