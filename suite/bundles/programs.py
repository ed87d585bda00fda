"""Programs of a bundle: StableHLO as `jax.export` stores it, read only where nothing in it could run other code."""

import math
from collections.abc import Callable
from typing import Any

import jax.export
from jax.interpreters import mlir

from suite.bundles.manifest import AGAIN
from suite.distribution import missing
from suite.errors import InputError, first_line

DIALECTS = ("builtin", "func", "stablehlo", "chlo")
"""Whose operations a program may consist of."""
CUSTOM_CALLS = frozenset({"shape_assertion"})
"""Custom calls that our programs make, on any platform: what symbolic shapes assume, checked by the compiler. Any other
is refused, since a custom call runs whatever the process has under that name."""
OUTSIDE = frozenset({"stablehlo.infeed", "stablehlo.outfeed", "stablehlo.send", "stablehlo.recv"})
"""Operations that exchange data with something else than the caller."""

Call = Callable[..., dict[str, Any]]
"""(weights by name, batch by name[, reference arrays by name]) -> outputs by name."""


def read(content: bytes, where: str, maker: str) -> jax.export.Exported:
    """A program from its bytes.

    Args:
        content: what `jax.export.Exported.serialize` gave.
        where: how errors call it.
        maker: the version of JAX that it was made by.

    Raises:
        InputError: it cannot be read, was made by a later JAX, or contains what it must not.
    """
    try:
        exported = jax.export.deserialize(bytearray(content))
        later = exported.calling_convention_version > jax.export.maximum_supported_calling_convention_version
        strange = [] if later else sorted(_strange(exported.mlir_module()))
    except ImportError as error:
        raise missing("flatbuffers", "to read programs", "serve") from error
    except Exception as error:  # of flatbuffers, of JAX and of MLIR: many kinds
        raise _unreadable(where, maker, first_line(error)) from None
    if later:
        raise _unreadable(where, maker, f"calling convention {exported.calling_convention_version}")
    if strange:
        raise InputError(
            where,
            "contains operations that a bundle may not have, since they could run other code.",
            found=", ".join(strange[:5]),
            fix="a bundle from a source that you trust",
        )
    if exported.nr_devices != 1 or exported.ordered_effects or exported.unordered_effects:
        raise InputError(
            where, "is no function of arrays on one device.", found=f"{exported.nr_devices} devices", fix=AGAIN
        )
    return exported


def _unreadable(where: str, maker: str, reason: str) -> InputError:
    if maker == jax.__version__:
        return InputError(where, f"cannot be read: it is no program of jax {maker}.", found=reason, fix=AGAIN)
    fix = f"install jax {maker}, or where the training code is: suite export --refresh BUNDLE"
    return InputError(
        where, f"cannot be read: it was made by jax {maker}, and this is jax {jax.__version__}.", found=reason, fix=fix
    )


def _strange(text: str) -> set[str]:
    """Names of operations and custom calls that a program must not contain."""
    operations: set[str] = set()

    def look(operation: Any) -> Any:
        name = operation.name
        if name.split(".")[0] not in DIALECTS or name in OUTSIDE:
            operations.add(name)
        elif name == "stablehlo.custom_call":
            target = mlir.ir.StringAttr(operation.attributes["call_target_name"]).value
            if target not in CUSTOM_CALLS:
                operations.add(f'custom call "{target}"')
        return mlir.ir.WalkResult.ADVANCE

    _walk(text, look)
    return operations


def runner(exported: jax.export.Exported) -> Call:
    """The program as a jitted function: each size of a batch is compiled once."""
    run: Call = jax.jit(exported.call)
    return run


def constants(text: str) -> int:
    """How many numbers a program holds as constants, those that are one repeated number not counted."""
    total = 0

    def look(operation: Any) -> Any:
        nonlocal total
        if operation.name == "stablehlo.constant" and not _repeated(operation):
            total += math.prod(mlir.ir.ShapedType(operation.results[0].type).shape)
        return mlir.ir.WalkResult.ADVANCE

    _walk(text, look)
    return total


def _repeated(constant: Any) -> bool:
    """Whether a constant is one number over and over."""
    try:
        value = constant.attributes["value"]
    except TypeError:  # complex numbers, which MLIR does not hand to Python
        return False
    return isinstance(value, mlir.ir.DenseElementsAttr) and value.is_splat


def _walk(text: str, look: Callable[[Any], Any]) -> None:
    with mlir.make_ir_context():
        mlir.ir.Module.parse(text).operation.walk(look)
