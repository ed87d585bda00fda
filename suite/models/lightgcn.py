"""LightGCN: vectors of users and items that are passed along the pairs of users and their items.

`He et al., 2020 <https://arxiv.org/abs/2002.02126>`_: what is compared is the mean of the vectors learnt, of those of
the neighbours, of those of theirs, and so on.

Dims: u users, i items, e pairs, d width.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from suite.contracts.model import ModelConfig
from suite.errors import InputError
from suite.models import tower
from suite.models.checks import check_sizes
from suite.models.parts import Composite, Parts


class Passed(nnx.Variable):
    """What passing gave in the last step of training, by which requests are answered."""


@dataclass(frozen=True, kw_only=True)
class Config(Parts):
    """Two tables of vectors, and how far they are passed."""

    parts: Any = field(default_factory=lambda: {"user": tower.Config(), "item": tower.Config()})
    """The tables of users and of items."""
    layers: int = 3
    """Times that vectors are passed on."""

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, 1, "layers")
