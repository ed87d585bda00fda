"""Compression: the sections of an experiment that quantization, pruning and distillation are set by."""

from dataclasses import dataclass, field
from typing import Literal

Criterion = Literal["magnitude", "movement", "taylor"]


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """Weights that training sets to zero, more and more of them (see suite.training.optim.sparsity)."""

    share: float = 0.0
    """Share of each pruned matrix that is zero at the end. 0: off."""
    pattern: str = "unstructured"
    """unstructured: any weights; 2:4, or another n:m: of each m weights in a row along the inputs, n stay."""
    criterion: Criterion = "magnitude"
    """Which weights stay: the largest; those that training moves away from zero (arXiv 2005.07683); or those without
    which the loss would change most (arXiv 1906.10771)."""
    exclude: tuple[str, ...] = (r"^head",)
    """Regular expressions on paths of kernels that stay whole, as embeddings, norms, biases and the last layer do."""
    begin: float = 0.0
    """Share of the steps after which the first weights go."""
    end: float = 0.7
    """Share of the steps after which the last ones are gone; the best checkpoint is one of those that follow. A step
    that train.on_nan skips is none of them."""
    updates: int = 50
    """How often, between begin and end, it is decided anew which weights stay."""


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What suite compress --prune takes out of a model."""

    share: float = 0.0
    """Share of the units of each layer, or of the weights of each matrix, that goes."""
    pattern: str = "structured"
    """structured: whole units, so that matrices get smaller; unstructured: any weights, which become zero; 2:4, or
    another n:m: of each m weights in a row along the inputs, n stay."""
    criterion: Literal["", "magnitude", "movement", "taylor"] = ""
    """What stays: the largest; what training moves away from zero (of weights alone, arXiv 2005.07683); that without
    which the loss would change most (arXiv 1906.10771). Empty: taylor for units, magnitude for weights."""
    units: tuple[str, ...] = ()
    """structured: kinds of units, of feed_forward, heads, channels, hidden. Empty: all that the model has but heads."""
    records: int = 4096
    """structured: training records that say how the loss would change."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What a student learns of its teacher (see suite.surgery.teacher)."""

    temperature: float = 2.0
    """What logits are divided by before they are compared: above 1, unlikely answers count for more."""
    labels: float = 0.1
    """Weight of the loss on labels."""
    logits: float = 0.9
    """Weight of the divergence from the teacher's answers. 0: off."""
    states: float = 1.0
    """Weight of the distance of hidden states, where there are any."""
    hidden: tuple[tuple[str, str], ...] = ()
    """Pairs of parts whose outputs are to be alike: path in the teacher, path in the student, e.g.
    (("encoder/layers/5", "encoder/layers/1"),)."""
    tables: tuple[tuple[str, str], ...] = ()
    """Tables that the student begins with: path of the parameter in the teacher, path in the student, e.g.
    (("encoder/tokens/embedding", "encoder/tokens/embedding"),). The student's is the teacher's on its widest axes."""

    @property
    def teaches(self) -> bool:
        """Whether a teacher is asked at all."""
        return self.logits > 0 or (self.states > 0 and bool(self.hidden))


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What suite compress does. Evaluation, export and serving build models by ``quantize``; the rest says how one was
    made."""

    quantize: Literal["none", "int8", "int4", "int8-dynamic", "int8-static"] = "none"
    """Format of the large weights. int8, int4: weights alone, each output, or group of inputs, with a scale of its own.
    Inputs of products are int8 too with int8-dynamic, which scales each row as it comes, and int8-static, by ranges of
    training records."""
    aware: bool = False
    """Training sees rounded weights (and inputs) and keeps float ones, which are rounded afterwards
    (arXiv 1712.05877)."""
    group: int = 64
    """int4: inputs that share a scale."""
    calibrate: int = 512
    """int8-static: training records that give the ranges of inputs."""
    keep: tuple[str, ...] = ()
    """Regular expressions on paths of layers whose weights stay float32, e.g. "^head"."""
    prune: Pruning = field(default_factory=Pruning)
    """What is taken out."""
    distill: Distillation = field(default_factory=Distillation)
    """What a student learns of its teacher, and what is left of a pruned model of the whole one."""
