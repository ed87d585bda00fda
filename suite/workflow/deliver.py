"""suite.deliver: from a recipe to a model that may leave the house, as one call that can be stopped anywhere.

Tune to the goal, compress and check again, export, report. Each stage leaves its result in a folder of its own and
begins only where that result is missing, so calling again goes on: within a stage too, since each can.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.bundles import manifest, signing
from suite.compression import compressing
from suite.compression import verdict as compressions
from suite.compression.compressing import Method
from suite.compression.quantization import Quantize
from suite.errors import InputError, Interrupted, unused
from suite.experiment import serialization
from suite.experiment.goal import Budget, Goal
from suite.experiment.sections import Experiment
from suite.exporting import exporting
from suite.reporting import reports
from suite.runs import results, run
from suite.runtime import files, json_files
from suite.training.preemption import stopped_by_sigterm
from suite.tuning import tuning
from suite.tuning import verdict as verdicts
from suite.tuning.verdict import Verdict

TUNED, SMALL, BUNDLE, REPORT, ASKED, FILE = "tune", "compressed", "bundle", "report.html", "asked.json", "delivery.json"
"""Entries of a delivery folder; the last one is written when all others are."""
MADE_WITH = {
    "method": (SMALL, BUNDLE, FILE),
    "max_drop": (SMALL, BUNDLE, FILE),
    "name": (BUNDLE, FILE),
    "licence": (BUNDLE, FILE),
}
"""Argument -> what depends on it: while none of that has begun, the argument may be another one."""
MAX_DROP = 0.005
"""Loss of the metric that compression may cost where nothing else is said."""


@dataclass(frozen=True)
class Delivery:
    """What became of a recipe.

    Attributes:
        folder: where all of it lies.
        tuned: the verdict on the goal.
        compressed: the verdict on the smaller model, as ``compression.json`` holds it; None where none was made.
        bundle: what a server may be given; None where the goal was missed.
        report: the page for people.
    """

    folder: Path
    tuned: Verdict
    compressed: Mapping[str, Any] | None
    bundle: Path | None
    report: Path

    @property
    def met(self) -> bool:
        """Whether the goal was met, and compression cost no more than it may."""
        return self.tuned.met and (self.compressed is None or bool(self.compressed["met"]))

    def __str__(self) -> str:
        """For people, a few lines."""
        lines = [self.tuned.sentence]
        if self.compressed is not None:
            what = "the smaller model" if self.compressed["met"] else "the model as it was"
            lines.append(f"{self.compressed['method']}: {compressions.sentence(self.compressed)}")
            lines.append(f"{self.bundle}: {what}" if self.bundle else "")
        else:
            lines.append(f"{self.bundle}: the model that was trained" if self.bundle else "")
        if self.bundle is None:
            lines.append(
                f"no bundle, since the goal was missed; suite export {self.tuned.run.folder} --to BUNDLE makes one"
            )
        return "\n".join([*filter(None, lines), str(self.report)])


def deliver(
    experiment: Experiment,
    run_dir: str | Path = "",
    *,
    goal: Goal | None = None,
    budget: Budget | None = None,
    method: Method | None = Quantize("int8"),
    max_drop: float = MAX_DROP,
    name: str = "",
    licence: str = "",
    sign: str | Path = "",
    storage: str = "",
    accept_changed_data: bool = False,
) -> Delivery:
    """Tune an experiment to its goal, compress what was chosen, export the smaller model, and report. Without a goal
    the best that the budget allows is what is compressed and exported.

    A model that misses its goal is neither compressed nor exported. One that compression harms by more than
    ``max_drop`` is exported as it was.

    Args:
        experiment: the recipe.
        run_dir: the folder of the delivery, by default ``runs/<date>-<name>-run``; one that was begun goes on.
        goal, budget: see `suite.tune`.
        method: how the model is made smaller; None: it stays as it is.
        max_drop: loss of the goal's metric that this may cost.
        name: of the model, as a server calls it; empty: that of the folder.
        licence: under which the model may be used, for its card.
        sign: the file of the private key that the bundle is signed with; empty: it is not signed.
        storage, accept_changed_data: see `suite.tune`.

    Raises:
        InputError: an argument cannot be used, which is found before anything is trained, or what is in the folder was
            made with other arguments or other data.
        Interrupted: it was asked to stop; the same call goes on.
    """
    experiment = tuning.aimed(experiment, goal, budget)
    tuning.check(experiment)
    if method is not None:
        method.check()
    exporting.named(experiment, name)
    if str(sign):
        signing.read_signer(sign)
    folder = Path(run_dir) if run_dir else results.new_folder(f"{experiment.name}-run")
    _claim(
        folder,
        {"method": None if method is None else repr(method), "max_drop": max_drop, "name": name, "licence": licence},
    )
    allow = (*serialization.packages(experiment), *(serialization.packages(method) if method else ()))
    again = f"suite run {shlex.quote(experiment.name)} --run-dir {shlex.quote(str(folder))}"
    try:
        with stopped_by_sigterm():
            tuned = tuning.tune(experiment, folder / TUNED, storage=storage, accept_changed_data=accept_changed_data)
            small = _compressed(tuned, folder, method, max_drop) if tuned.met and method is not None else None
            bundle = _exported(tuned, folder, small, name, licence, allow, sign) if tuned.met else None
            delivery = Delivery(folder, tuned, small, bundle, folder / REPORT)
            if not (folder / FILE).exists():
                _tell(delivery, allow)
    except Interrupted as stopped:
        raise stopped.within(folder, again) from None
    except KeyboardInterrupt:
        raise Interrupted(folder, None, None, again=again) from None
    return delivery


def _tell(delivery: Delivery, allow: tuple[str, ...]) -> None:
    _say("report", delivery.report)
    beside = [delivery.folder / SMALL] if delivery.compressed is not None else []
    reports.report(delivery.folder / TUNED, beside=beside, to=delivery.report, allow=allow)
    told = {
        "met": delivery.met,
        "goal": delivery.tuned.sentence,
        "compressed": delivery.compressed,
        "bundle": None if delivery.bundle is None else delivery.bundle.name,
        "report": delivery.report.name,
    }
    files.write_text(delivery.folder / FILE, json.dumps(told, indent=1) + "\n")


def _claim(folder: Path, asked: dict[str, Any]) -> None:
    """Notes the arguments.

    Raises:
        InputError: the folder holds something else, or what it holds was made with other arguments.
    """
    path = folder / ASKED
    if path.exists():
        before = json_files.read_object(path)
        for key, value in asked.items():
            if before.get(key) != value and any((folder / product).exists() for product in MADE_WITH[key]):
                raise InputError(
                    f'--run-dir "{folder}"',
                    f"was begun with another {key.replace('_', '-')}.",
                    found=str(before.get(key)),
                    fix="the same flags, or another --run-dir",
                )
        if before == asked:
            return
    elif files.is_run(folder) or (folder / verdicts.VERDICT).exists():
        raise InputError(f'--run-dir "{folder}"', "holds something else.", fix=f"--run-dir {unused(folder)}")
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(asked, indent=1) + "\n")


def _compressed(tuned: Verdict, folder: Path, method: Method, max_drop: float) -> Mapping[str, Any]:
    target = folder / SMALL
    if not (target / compressions.FILE).exists():
        _say("compress", target)
        compressing.compress(tuned.run, method, target, max_drop=max_drop, resume=True)
    return compressions.read(target)


def _exported(
    tuned: Verdict,
    folder: Path,
    small: Mapping[str, Any] | None,
    name: str,
    licence: str,
    allow: tuple[str, ...],
    sign: str | Path,
) -> Path:
    target = folder / BUNDLE
    if not (target / manifest.NAME).exists():
        _say("export", target)
        delivered = run.open(folder / SMALL, allow) if small is not None and small["met"] else tuned.run
        name = exporting.named(delivered.experiment, name, (folder,))
        exporting.export(delivered, target, name=name, licence=licence, allow=allow, sign=sign)
    return target


def _say(stage: str, target: Path) -> None:
    print(f"{stage}: {target}", file=sys.stderr, flush=True)
