"""One private training step: gradients of single records, clipped, summed and noised, beside the plain step.

Ours is the trainer's step with the rule `Private`. Peer: Opacus (`pip install --no-deps opacus==1.6.0`), by hooks
that keep the gradients of single records, and by ghost clipping. Both sides clip at norm 1 with noise 1, SGD.

    python -m benchmarks.private
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import main, variant
from suite.tasks.vision.classification import ImageClassification

CLASSES = 10
SHAPES = {"784-128-10, b512": (512, 28, 28, 1), "ResNet-18 with group norms, 32x32, b32": (32, 32, 32, 3)}
MICROBATCHES = {"784-128-10, b512": 512, "ResNet-18 with group norms, 32x32, b32": 32}
"""The whole batch: no gradient of a single record of a dense or convolutional layer is held."""


class Arrays(ImageClassification):
    """Classes of arrays that are normalised already."""

    def logits(self, model: Any, batch: Any, rngs: Any = None) -> Any:
        return model(batch["image"], rows=batch["mask"], rngs=rngs)


def data(case: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = SHAPES[case]
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, CLASSES, shape[0]).astype(np.int32)


def ours(case: str, private: bool) -> Callable[[], Any]:
    import jax

    from suite.experiment.sections import Experiment, Optim, Train
    from suite.models import dnn, resnet
    from suite.runtime import allocation
    from suite.training.assemble import assemble
    from suite.training.private_gradient import Private

    allocation.keep_memory()
    images, labels = data(case)
    count = len(images)
    if case.startswith("784"):
        model: Any = dnn.Config(inputs=784, outputs=CLASSES)
    else:
        model = resnet.resnet18(channels=3, outputs=CLASSES, norm="group")
    rule = Private(noise=1.0, expected=count, parts=count // MICROBATCHES[case], key=(1, 2)) if private else None
    sgd = Optim(name="sgd", schedule="constant", learning_rate=1e-3)
    experiment = Experiment(
        name="benchmark", task=Arrays(data=None), model=model, optim=sgd, train=Train(batch_size=count)
    )
    program = assemble(experiment, 1000, rule)
    state = program.init()
    batch = {"image": images, "label": labels, "mask": np.ones(count, bool), "seed": np.arange(count, dtype=np.uint32)}
    batches = jax.device_put({name: value[None] for name, value in batch.items()})

    def run() -> float:
        nonlocal state
        state, metrics = program.step(state, batches)
        return float(metrics["loss"].total)

    return run


def peer(case: str, mode: str) -> Callable[[], Any]:
    import torch
    import torchvision
    from torch import nn

    images, labels = (torch.tensor(part) for part in data(case))
    labels = labels.long()
    if case.startswith("784"):
        model: Any = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    else:
        model = torchvision.models.resnet18(num_classes=CLASSES, norm_layer=lambda channels: nn.GroupNorm(32, channels))
        for part in model.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = False
        torchvision.models.resnet.BasicBlock.forward = _residual
        images = images.permute(0, 3, 1, 2).contiguous()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    criterion: Any = nn.CrossEntropyLoss()
    if mode != "plain":
        from opacus import PrivacyEngine

        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=len(images))
        private = PrivacyEngine(accountant="rdp").make_private(
            module=model,
            optimizer=optimizer,
            criterion=criterion,
            data_loader=loader,
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            poisson_sampling=False,
            grad_sample_mode=mode,
        )
        model, optimizer, *rest = private
        criterion = rest[0] if mode == "ghost" else criterion

    def run() -> float:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return run


def _residual(block: Any, x: Any) -> Any:
    """torchvision's residual block without its sum in place, which Opacus's hooks forbid."""
    shortcut = x if block.downsample is None else block.downsample(x)
    inner = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    return block.relu(inner + shortcut)


for _case in SHAPES:
    variant(_case, "ours, private")(lambda case=_case: ours(case, True))
    variant(_case, "ours, plain")(lambda case=_case: ours(case, False))
    variant(_case, "Opacus, hooks")(lambda case=_case: peer(case, "hooks"))
    variant(_case, "Opacus, ghost clipping")(lambda case=_case: peer(case, "ghost"))


if __name__ == "__main__":
    main()
