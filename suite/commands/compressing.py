"""compress: a run made smaller, and whether it is still good enough."""

from typing import TYPE_CHECKING

from suite.commands.options import Options, allow, apply_flags, split_options, word
from suite.errors import InputError, Missed

if TYPE_CHECKING:
    from suite.compression.compressing import Method

FLAGS = ("quantize",)
"""Each stands for one method."""


def compress(arguments: list[str]) -> None:
    """suite compress RUN --quantize int8|int4|int8-dynamic|int8-static [--aware] [--max-drop X] [--split NAME]
    [--run-dir DIR [--continue]] [--compression.field VALUE ...] [--section.field VALUE ...] [--allow PACKAGE]"""
    from suite import run as runs
    from suite.compression import compressing, verdict

    options = split_options(arguments, (*FLAGS, "max-drop", "split", "run-dir", "allow"), ("aware", "continue"))
    folder = word(options, "RUN", "the folder that suite train printed last")
    method, most = _method(options), _max_drop(options)
    opened = runs.open(folder, allow(options))
    experiment = apply_flags(method.start(opened), options.rest, f"suite compress {folder}")
    made = compressing.compress(
        opened, method, options.named.get("run-dir", ""), experiment=experiment,
        split=options.named.get("split", ""), max_drop=most, resume="continue" in options.named,
        allow=allow(options),
    )  # fmt: skip
    found = verdict.read(made.folder)
    print(verdict.render(found))
    print(made.folder)
    if not found["met"]:
        raise Missed(verdict.sentence(found))


def _method(options: Options) -> "Method":
    """The one that a flag names."""
    asked = [name for name in FLAGS if name in options.named]
    if len(asked) != 1:
        raise InputError("flags", f"name one of {', '.join('--' + name for name in FLAGS)}.",
                         found=", ".join("--" + name for name in asked) or "none",
                         fix="suite compress RUN --quantize int8")  # fmt: skip
    from suite.compression.quantization import Quantize

    return Quantize(options.named["quantize"], aware="aware" in options.named)


def _max_drop(options: Options) -> float | None:
    given = options.named.get("max-drop")
    try:
        return None if given is None else float(given)
    except ValueError:
        raise InputError("flag --max-drop", f'"{given}" is no number.', fix="--max-drop 0.005") from None
