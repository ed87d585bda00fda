"""Hooks: capture what modules of a model are given and give out, and replace either, without a change to the model."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from flax import nnx

from suite.errors import InputError, closest


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        inputs: positional arguments.
        named: keyword arguments.
        output: what the module gave out; where it is replaced, what it was replaced by.
    """

    inputs: tuple[Any, ...]
    named: Mapping[str, Any]
    output: Any


Feed = Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
"""(positional, keyword arguments) -> those that a module is called with instead."""


@dataclass
class _Hook:
    path: str
    capturing: bool
    replacement: Any = None
    feed: Feed | None = None
    calls: list[Call] = field(default_factory=list)
    where: str = ""
    applied: bool = False


_HOOKS: dict[int, list[_Hook]] = {}
"""Identity of a hooked module -> its hooks, the innermost last. Modules are not compared: equality of two may be
expensive, and two equal ones are still two."""


@contextlib.contextmanager
def hooks(
    model: nnx.Module,
    capture: Iterable[str] = (),
    replace: Mapping[str, Any] = {},
    where: str = "hooks",
    feed: Mapping[str, Feed] = {},
) -> Iterator[dict[str, list[Call]]]:
    """Within the context, calls of the modules at these paths are noted, and their outputs replaced.

    It also works while a function is traced; then the model is one that the function has built or merged, and the calls
    hold tracers, which must not leave the function. Modules behave as before once the context is left, also by an
    exception. Contexts may be nested: the output that the inner one leaves is what the outer one sees.

    Args:
        model: whose modules are hooked; an empty path is the model itself.
        capture: paths as of parameters, ``"encoder/layers/0"``.
        replace: path -> array that is given out instead, or function of the output that returns what is.
        where: the field or flag that names the paths, for the message of an error.
        feed: path -> function of the arguments that returns those the module is given instead; it need not be called.

    Yields:
        path of ``capture`` -> its calls so far, in order.

    Raises:
        InputError: there is no such module, it cannot be called, or its calls cannot be noted: layers that are scanned
            or computed again are called as copies. On leaving: a module whose output was to be replaced was not called.
    """
    capture = list(dict.fromkeys(capture))
    modules = {"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)}
    added: list[tuple[nnx.Module, type, _Hook]] = []
    try:
        for path in dict.fromkeys([*capture, *replace, *feed]):
            module = _module(model, modules, path, where)
            hook = _Hook(path, path in capture, replace.get(path), feed.get(path), where=where)
            added.append((module, type(module), hook))
            _HOOKS.setdefault(id(module), []).append(hook)
            if not isinstance(module, _Hooked):
                object.__setattr__(module, "__class__", _hooked(type(module)))
        yield {hook.path: hook.calls for _, _, hook in added if hook.capturing}
        missed = [hook.path for _, _, hook in added if hook.path in replace and not hook.applied]
        if missed:
            raise InputError(where, f'"{missed[0]}" was to be replaced, but was not called.', found=", ".join(missed))
    finally:
        for module, kind, _ in reversed(added):
            _HOOKS[id(module)].pop()
            if not _HOOKS[id(module)]:
                del _HOOKS[id(module)]
            object.__setattr__(module, "__class__", kind)


class _Hooked:
    """Marks the classes that hooked modules have meanwhile."""

    __slots__ = ()


_CLASSES: dict[type, type] = {}
"""Class of a module -> the class that it has while it is hooked."""


def _hooked(kind: type) -> type:
    """The subclass of a module's class whose calls go through the hooks of the module."""
    if kind not in _CLASSES:
        body = {"__call__": functools.partialmethod(_call, kind), "__module__": kind.__module__}
        _CLASSES[kind] = type(kind)(kind.__name__, (kind, _Hooked), body)
    return _CLASSES[kind]


def _call(self: Any, kind: type, *inputs: Any, **named: Any) -> Any:
    if id(self) not in _HOOKS:
        raise InputError(
            next((active[-1].where for active in _HOOKS.values()), "hooks"),
            f"a {kind.__name__} is scanned or computed again, so its calls cannot be noted.",
            fix="--model.scan_layers False --model.remat none",
        )
    for hook in reversed(_HOOKS[id(self)]):
        if hook.feed is not None:
            inputs, named = hook.feed(inputs, named)
    output = kind.__call__(self, *inputs, **named)  # type: ignore[operator]
    for hook in reversed(_HOOKS[id(self)]):
        hook.applied = True
        if hook.replacement is not None:
            output = hook.replacement(output) if callable(hook.replacement) else jnp.asarray(hook.replacement)
        if hook.capturing:
            hook.calls.append(Call(inputs, named, output))
    return output


def _module(model: nnx.Module, modules: Mapping[str, nnx.Module], path: str, where: str) -> nnx.Module:
    if path not in modules:
        raise InputError(
            where,
            f'"{path}" is no part of {type(model).__name__}.',
            found=", ".join(name for name in modules if name.count("/") == 2) or ", ".join(filter(None, modules)),
            fix=closest(path, modules),
        )
    if not callable(modules[path]):
        inside = [name for name in modules if name.startswith(f"{path}/") and callable(modules[name])]
        raise InputError(where, f'"{path}" is a list of modules, which is not called.', found=", ".join(inside[:8]))
    return modules[path]
