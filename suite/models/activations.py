"""Activations by their published names: what ``hidden_act`` and its like say in a ``config.json``."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from suite.errors import InputError
from suite.nn.mlp import GATED, Activation, Inner

PLAIN: tuple[str, ...] = get_args(Activation)
ALL: tuple[str, ...] = get_args(Inner)
"""What `suite.nn.FeedForward` can be built with: without a gate, and all."""
_ALIASES = {
    # Four spellings of one formula; they differ in the rounding of its constant.
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_python": "gelu",
    "swish": "silu",
}
_NAMES = {**{name: name for name in PLAIN if name != "gelu_tanh"}, **_ALIASES}
_PUBLISHED = {"gelu_tanh": "gelu_new"}


def published_activation(config: Mapping[str, Any], field: str, default: str = "gelu") -> str:
    """Our name of the activation that ``field`` of a published ``config`` names.

    Raises:
        InputError: no such activation, or one with parameters of its own.
    """
    return activation(field, config.get(field, default))


def activation(field: str, name: Any) -> str:
    """Our name of the published activation ``name``, which stood in ``field``."""
    if name not in _NAMES:
        raise _refusal(field, name, "this family", _NAMES)
    return _NAMES[name]


def gated(field: str, name: Any) -> Any:
    """Our name of the feed-forward layer whose gate has the published activation ``name``."""
    own = activation(field, name)
    forms = {gate: form for form, gate in GATED.items()}
    if own not in forms:
        raise _refusal(field, name, "the gate of this family", [n for n, ours in _NAMES.items() if ours in forms])
    return forms[own]


def _refusal(field: str, name: Any, what: str, known: Iterable[str]) -> InputError:
    """The error that ``what`` cannot do the published activation ``name``; ``known`` are those that it can."""
    fix = f"weights with one of {', '.join(sorted(known))}"
    return InputError(f"config.json, {field}", f"is not something {what} can do", found=str(name), fix=fix)


def published_name(activation: str) -> str:
    """The name that a published config has for our ``activation``; of a gated form, for that of its gate."""
    plain = GATED.get(activation, activation)
    return _PUBLISHED.get(plain, plain)
