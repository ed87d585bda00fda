"""compress: a run made smaller, and whether it is still good enough."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from suite.cli.options import Options, allow, apply_flags, split_options, word
from suite.errors import InputError, Missed

if TYPE_CHECKING:
    from suite.compression.compressing import Method

FLAGS = {"quantize": "int8", "prune": "0.5", "distill": "EXPERIMENT"}
"""Each stands for one method; with a value that it takes."""
OF = {"aware": "quantize", "baseline": "distill"}
"""Flags that belong to one of the methods."""
SHORT = ("pattern", "criterion", "units", "records")
"""Fields of compression.prune that are flags by their own name."""


def compress(arguments: list[str]) -> None:
    """suite compress RUN --quantize int8|int4|int8-dynamic|int8-static [--aware] |
    --prune SHARE [--pattern structured|unstructured|2:4] [--criterion taylor|magnitude|movement] [--units KIND ...]
    [--records N] | --distill EXPERIMENT [--baseline] [--smoke]; with the last two [--distill.temperature T]
    [--distill.logits W] [--distill.hidden PART PART ...]; with all [--max-drop X] [--split NAME]
    [--run-dir DIR [--continue]] [--section.field VALUE ...] [--allow PACKAGE]"""
    from suite.compression import compressing, verdict
    from suite.runs import run as runs

    options = split_options(
        arguments, (*FLAGS, "max-drop", "split", "run-dir", "allow"), ("aware", "baseline", "smoke", "continue")
    )
    folder = word(options, "RUN", "the folder that suite train printed last")
    if "continue" in options.named and "run-dir" not in options.named:
        raise InputError(
            "flag --continue",
            "goes on with a compression that has begun, in a folder that is named.",
            fix="--run-dir DIR --continue",
        )
    short = [name for name in SHORT if any(re.match(rf"--{name}(=|$)", argument) for argument in options.rest)]
    method, most = method_of(options, {**OF, "smoke": "distill", **dict.fromkeys(short, "prune")}), max_drop(options)
    opened = runs.open(folder, allow(options))
    experiment = apply_flags(method.start(opened), _fields(options.rest), f"suite compress {folder}")
    compressed = compressing.compress(
        opened,
        method,
        options.named.get("run-dir", ""),
        experiment=experiment,
        split=options.named.get("split", ""),
        max_drop=most,
        resume="continue" in options.named,
        allow=allow(options),
    )
    outcome = verdict.read(compressed.folder)
    print(verdict.render(outcome))
    print(compressed.folder)
    if not outcome["met"]:
        raise Missed(verdict.sentence(outcome))


def method_of(options: Options, of: Mapping[str, str] = OF) -> "Method":
    """The one that a flag names. ``of``: flag -> the method that it belongs to, without which it would say nothing.

    Raises:
        InputError: no method is named, or several, or a flag belongs to another one.
    """
    asked = [name for name in FLAGS if name in options.named]
    if len(asked) != 1:
        raise InputError(
            "flags",
            f"name one of {', '.join('--' + name for name in FLAGS)}.",
            found=", ".join("--" + name for name in asked) or "none",
            fix="suite compress RUN --quantize int8",
        )
    for flag, method in of.items():
        if method not in asked and (flag in options.named or flag in SHORT):
            raise InputError(
                f"flag --{flag}",
                f"says something of --{method} alone.",
                found=f"--{asked[0]}",
                fix=f"--{method} {FLAGS[method]}, or without --{flag}",
            )
    if "prune" in options.named:
        from suite.compression.pruning import Prune

        return Prune(_number(options, "prune", "0.5"))
    if "distill" in options.named:
        from suite.compression.distill import Distill
        from suite.experiment import recipes

        student = recipes.load(options.named["distill"], smoke="smoke" in options.named)
        return Distill(student, baseline="baseline" in options.named)
    from suite.compression.quantization import Quantize

    return Quantize(options.named["quantize"], aware="aware" in options.named)


def _fields(arguments: list[str]) -> list[str]:
    """Flags of pruning and distillation by the names of their fields."""
    names = "|".join(SHORT)
    sections = [re.sub(r"^--(prune|distill)\.", r"--compression.\1.", argument) for argument in arguments]
    return [re.sub(rf"^--({names})(?==|$)", r"--compression.prune.\1", argument) for argument in sections]


def max_drop(options: Options) -> float | None:
    return _number(options, "max-drop", "0.005") if "max-drop" in options.named else None


def _number(options: Options, flag: str, example: str) -> float:
    try:
        return float(options.named[flag])
    except ValueError:
        raise InputError(
            f"flag --{flag}", f'"{options.named[flag]}" is no number.', fix=f"--{flag} {example}"
        ) from None
