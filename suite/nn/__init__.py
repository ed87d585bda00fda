"""Building blocks, shape-typed. They import jax and flax alone and know nothing of tasks, data or training."""

from suite.nn.attention import SelfAttention
from suite.nn.dot import dot, dot_nt, einsum
from suite.nn.dropout import Dropout
from suite.nn.embedding import Embedding, LearnedPositions, rotary, sinusoidal
from suite.nn.linear import Linear
from suite.nn.mlp import FeedForward, activate, gelu
from suite.nn.norm import LayerNorm, RMSNorm

__all__ = [
    "Dropout", "Embedding", "FeedForward", "LayerNorm", "LearnedPositions", "Linear", "RMSNorm", "SelfAttention",
    "activate", "dot", "dot_nt", "einsum", "gelu", "rotary", "sinusoidal",
]  # fmt: skip
