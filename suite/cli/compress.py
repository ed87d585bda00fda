"""suite compress: a run made smaller, and whether it is still good enough."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from suite.cli.fields import apply_flags
from suite.cli.flags import Flags, Verb, flag, options
from suite.cli.shared_flags import OfRun, Smoke, folder_named
from suite.errors import InputError, Missed

if TYPE_CHECKING:
    from suite.compression.compressing import Method

METHODS = ("quantize", "prune", "distill")
"""Flags that stand for one method each."""
OF = {"aware": "quantize", "baseline": "distill"}
"""Flags that belong to one of the methods."""
OF_PRUNING = ("pattern", "criterion", "units", "records")
"""Flags that stand for fields of compression.prune."""


@dataclass(frozen=True, kw_only=True)
class Methods(Flags):
    """A verb that makes a model smaller."""

    quantize: Literal["", "int8", "int4", "int8-dynamic", "int8-static"] = flag("", value="FORMAT", example="int8")
    """Round the large weights: int8, int4, or with inputs of products rounded too int8-dynamic, int8-static."""
    aware: bool = flag(False, otherwise="weights are rounded after training")
    """With --quantize: train with rounded weights."""
    prune: float | None = flag(None, value="SHARE", example="0.5")
    """Take out this share of units, or of weights with --pattern, and train what is left."""
    distill: str = flag("", value="EXPERIMENT", example="text.sst2_student")
    """Train this smaller experiment with the run as its teacher."""
    baseline: bool = flag(False, otherwise="the student is compared with its teacher alone")
    """With --distill: train the student without the teacher, too."""
    max_drop: float | None = flag(None, value="X", example="0.005", otherwise="any loss is accepted")
    """How much of its metric the model may lose; more ends with exit code 3."""


@dataclass(frozen=True, kw_only=True)
class Compress(Methods, OfRun, Smoke):
    """Makes a run smaller by rounding, pruning or distillation, and measures it again."""

    verb = "compress"
    takes_fields: ClassVar[bool] = True
    examples = (
        "suite compress runs/reviews --quantize int8 --max-drop 0.005",
        "suite compress runs/photos --prune 0.5 --train.epochs 3",
        "suite compress runs/reviews --distill text.sst2_student --distill.temperature 3",
    )
    notes = (
        "Fields of distillation may be named without their section: --distill.temperature 3 stands for "
        "--compression.distill.temperature 3."
    )

    pattern: str = flag("", value="PATTERN", example="unstructured", otherwise="structured")
    """With --prune: structured, unstructured, or 2:4."""
    criterion: Literal["", "magnitude", "movement", "taylor"] = flag(
        "", value="NAME", example="magnitude", otherwise="taylor for units, magnitude for weights"
    )
    """With --prune: which stay. The largest, those that move away from zero, or those that the loss needs."""
    units: tuple[Literal["feed_forward", "heads", "channels", "hidden"], ...] = flag(
        (), value="KIND ...", example="feed_forward channels", otherwise="all but heads"
    )
    """With --prune: kinds of units, of feed_forward, heads, channels and hidden."""
    records: int | None = flag(None, example="4096", least=1, otherwise="4096")
    """With --prune: training records that say how the loss would change."""
    split: str = flag("", value="SPLIT", example="test", otherwise="that of the goal, else validation")
    """Split that is measured before and after."""
    run_dir: str = flag("", value="DIR", example="runs/reviews-int8", otherwise="beside the run")
    """Folder of the smaller run."""
    continue_: bool = flag(False)
    """Go on with the compression in --run-dir where it has begun."""


def compress(given: Compress) -> None:
    from suite.compression import compressing, verdict
    from suite.runs import run as runs

    if given.continue_:
        folder_named(given.run_dir, given)
    method = method_of(given, {**OF, "smoke": "distill", **dict.fromkeys(OF_PRUNING, "prune")})
    opened = runs.open(given.run, given.allowed)
    experiment = apply_flags(method.start(opened), _fields(given), f"suite compress {given.run}")
    compressed = compressing.compress(
        opened,
        method,
        given.run_dir,
        experiment=experiment,
        split=given.split,
        max_drop=given.max_drop,
        resume=given.continue_,
        allow=given.allowed,
    )
    outcome = verdict.read(compressed.folder)
    print(verdict.render(outcome))
    print(compressed.folder)
    if not outcome["met"]:
        raise Missed(verdict.sentence(outcome))


def named(given: Flags) -> list[str]:
    """Fields whose flags were given."""
    return [option.field for option in options(type(given)) if getattr(given, option.field) != option.default]


def method_of(given: Methods, of: Mapping[str, str] = OF) -> "Method":
    """The method that a flag names. ``of``: flag -> the method that it belongs to.

    Raises:
        InputError: no method is named, or several, or a flag belongs to another one.
    """
    asked = [name for name in METHODS if name in named(given)]
    if len(asked) != 1:
        raise InputError(
            "flags",
            f"name one of {', '.join('--' + name for name in METHODS)}.",
            found=", ".join("--" + name for name in asked) or "none",
            fix="" if asked else "--quantize int8",
        )
    for flag_, method in of.items():
        if method not in asked and flag_ in named(given):
            raise InputError(
                f"flag --{flag_}",
                f"belongs to --{method}.",
                found=f"--{asked[0]}",
                fix=f"the flag --{method} instead, or no --{flag_}",
            )
    if given.prune is not None:
        from suite.compression.pruning import Prune

        return Prune(given.prune)
    if given.distill:
        from suite.compression.distill import Distill
        from suite.experiment import recipes

        student = recipes.load(given.distill, smoke=getattr(given, "smoke", False))
        return Distill(student, baseline=given.baseline)
    from suite.compression.quantization import Quantize

    return Quantize(given.quantize, aware=given.aware)


def _fields(given: Compress) -> list[str]:
    """Flags of pruning and distillation by the names of their fields."""
    short = {"pattern": given.pattern, "criterion": given.criterion, "records": given.records, "units": given.units}
    of_pruning: list[str] = []
    for name, value in short.items():
        if name in named(given):
            values = value if isinstance(value, tuple) else (str(value),)
            of_pruning += [f"--compression.prune.{name}", *values]
    return of_pruning + [re.sub(r"^--(prune|distill)\.", r"--compression.\1.", item) for item in given.fields]


VERB = Verb(Compress, compress)
