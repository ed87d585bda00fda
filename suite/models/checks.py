"""Checks of configuration fields, with one wording for all model families."""

from collections.abc import Mapping
from typing import Any

from suite.contracts.model import ModelConfig
from suite.errors import InputError


def check_sizes(config: ModelConfig, least: int, *names: str) -> None:
    """InputError unless each of these fields is at least ``least``."""
    for name in names:
        if getattr(config, name) < least:
            problem = "must not be negative" if least == 0 else f"must be at least {least}"
            raise InputError(f"field model.{name}", problem, found=str(getattr(config, name)))


def check_choices(config: ModelConfig, choices: Mapping[str, tuple[Any, ...]]) -> None:
    """InputError unless each of these fields has one of its values."""
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise InputError(
                f"field model.{name}",
                "no such choice",
                found=str(getattr(config, name)),
                fix=", ".join(map(str, known)),
            )


def check_fractions(config: ModelConfig, *names: str) -> None:
    """InputError unless each of these fields is in [0, 1)."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise InputError(f"field model.{name}", "must be at least 0 and below 1", found=str(getattr(config, name)))


def divisors(n: int) -> str:
    """The first of the numbers that divide ``n``, up to 32, for a person to choose from."""
    return ", ".join(str(i) for i in range(1, min(n, 32) + 1) if n % i == 0)


def check_given(config: ModelConfig, *names: str) -> None:
    """InputError where one of these fields is still 0 or () when the model is built."""
    for name in names:
        if not getattr(config, name):
            problem = f"is {getattr(config, name)}, and the task did not give it"
            raise InputError(f"field model.{name}", problem, fix="set it by hand")
