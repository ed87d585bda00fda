"""Building blocks, shape-typed. They import jax and flax alone and know nothing of tasks, data or training."""

from suite.nn.attention import CrossAttention, Kernel, SelfAttention, attend
from suite.nn.cache import Cache
from suite.nn.dot import dot, dot_nt, einsum
from suite.nn.dropout import Dropout
from suite.nn.embedding import Embedding, LearnedPositions, RelativeBias, rotary, sinusoidal, sinusoids
from suite.nn.linear import Linear
from suite.nn.mlp import Activation, FeedForward, Inner, activate, gelu, gelu_tanh
from suite.nn.norm import LayerNorm, RMSNorm
from suite.nn.stack import Remat, run_layers

__all__ = [
    "Activation",
    "Cache",
    "CrossAttention",
    "Dropout",
    "Embedding",
    "FeedForward",
    "Inner",
    "Kernel",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "RMSNorm",
    "RelativeBias",
    "Remat",
    "SelfAttention",
    "activate",
    "attend",
    "dot",
    "dot_nt",
    "einsum",
    "gelu",
    "gelu_tanh",
    "rotary",
    "run_layers",
    "sinusoidal",
    "sinusoids",
]
