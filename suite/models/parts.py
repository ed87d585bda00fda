"""Composite models: several families side by side, each under a name of its own.

The task calls the parts: ``model.image(pixels)``, ``model.text(tokens, mask)``. What a family's tables say of its
parameters holds for the part, with the part's name before every path.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flax import nnx

from suite.contracts.model import ModelConfig
from suite.contracts.units import Axis, Units
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Parts(ModelConfig):
    """Several models that one task trains together.

    Preprocessors state the sizes of the part they name (``part="text"``), and ``checkpoint.init_from`` says what each
    part starts from. Fields of a part have dotted names: ``model.parts.text.width``.
    """

    parts: Mapping[str, ModelConfig] = field()
    """Configurations by the name of the part, which is an attribute of the model."""
    feeds: Mapping[str, str] = field(default_factory=dict)
    """Part -> the part whose vectors it is given, from which its sizes come that are 0, such as ``inputs``."""

    def __post_init__(self):
        if not self.parts:
            raise InputError("field model.parts", "is empty.", fix='Parts(parts={"text": transformer.Config()})')
        for name in self.parts:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == "class" or hasattr(nnx.Module, name):
                raise InputError(
                    "field model.parts",
                    f'"{name}" cannot be the name of a part, which is an attribute of the model.',
                    found=", ".join(self.parts),
                    fix="a word in small letters that flax.nnx.Module doesn't use",
                )
        for name, source in self.feeds.items():
            if name not in self.parts or source not in self.parts:
                wrong = name if name not in self.parts else source
                raise InputError("field model.feeds", f'"{wrong}" is no part.', found=", ".join(self.parts))

    def build(self, *, rngs: nnx.Rngs) -> "Composite":
        parts = {name: self._fed(name, part) for name, part in self.parts.items()}
        return Composite(replace(self, parts=parts), rngs=rngs)

    def _fed(self, name: str, part: ModelConfig) -> ModelConfig:
        """The part with the sizes that the part which feeds it states, where its own are 0."""
        if name not in self.feeds:
            return part
        sizes = self.parts[self.feeds[name]].vector_sizes
        changes = {field: size for field, size in sizes.items() if getattr(part, field, None) == 0}
        return replace(part, **changes)  # type: ignore[type-var]

    @property
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        return tuple((prefixed(rule, name), spec) for name, part in self.parts.items() for rule, spec in part.sharding)

    def layer_of(self, path: str) -> int:
        """The layer of the part, counted from the top: heads of all parts are ``depth``, and so is all of a part that
        tells no layers apart."""
        name, _, rest = path.partition("/")
        part = self.parts.get(name)
        return self.depth if part is None else self.depth - part.depth + part.layer_of(rest)

    @property
    def depth(self) -> int:
        return max(part.depth for part in self.parts.values())

    @property
    def served(self) -> "Parts":
        return replace(self, parts={name: part.served for name, part in self.parts.items()})

    @property
    def tables(self) -> dict[str, str]:
        """Tables of all parts. The batch's key, too, has the part's name before it: ``user_ids`` of the part ``user``,
        so that two parts of a family look up rows of their own."""
        return {
            f"{name}/{path}": f"{name}_{key}" for name, part in self.parts.items() for path, key in part.tables.items()
        }

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        return {
            f"parts.{name}.{size}": count
            for name, part in self.parts.items()
            for size, count in part.shared_by_tensor.items()
        }

    @property
    def prunable(self) -> tuple[Units, ...]:
        return tuple(_of_part(units, name) for name, part in self.parts.items() for units in part.prunable)

    def adopt(self, published: ModelConfig) -> "Parts":
        """With the sizes of the same parts of another composite model; published weights are of one family."""
        if not isinstance(published, Parts):
            names = list(self.parts)
            raise InputError(
                "field checkpoint.init_from",
                f"names weights of {type(published).__module__}, and the model has parts.",
                found=", ".join(names),
                fix=f"--checkpoint.init_from {shlex.quote(names[0])}=SOURCE",
            )
        both = {name: part.adopt(published.parts[name]) for name, part in self.parts.items() if name in published.parts}
        return replace(self, parts={**self.parts, **both})


class Composite(nnx.Module):
    """The parts as attributes, in the order of the configuration, which is that of their initial random numbers."""

    def __init__(self, config: Parts, *, rngs: nnx.Rngs):
        for name, part in config.parts.items():
            setattr(self, name, part.build(rngs=rngs))


def prefixed(rule: str, name: str) -> str:
    """The regular expression that finds in ``name/path`` what ``rule`` finds in ``path``: the start of the path, which
    ``^`` stands for, is that behind the name."""
    start = f"(?<=^{name}/)"
    # An escaped character, a set of characters, or one character.
    pieces = re.findall(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", rule, re.DOTALL)
    inner = "".join(start if piece in ("^", r"\A") else piece for piece in pieces)
    return f"^{name}/.*?(?:{inner})"


def _of_part(units: Units, name: str) -> Units:
    """The units of a part, as those of the whole."""

    def axes(part: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple((f"{name}/{path}", axis) for path, axis in part)

    def fewer(config: Parts, count: int, place: int) -> Parts:
        return replace(config, parts={**config.parts, name: units.narrowed(config.parts[name], count, place)})

    count: Callable[[Any], int] | None = units.count
    return replace(
        units,
        made=axes(units.made),
        used=axes(units.used),
        count=None if count is None else lambda config: count(config.parts[name]),
        fewer=fewer,
    )
