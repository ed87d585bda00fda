"""tune: what trains more than once."""

import shlex

from suite.cli.options import resolve, split_options, word
from suite.errors import Interrupted, Missed


def tune(arguments: list[str]) -> None:
    """suite tune EXPERIMENT [--section.field VALUE ...] [--data PATH] [--run-dir DIR] [--storage URL] [--keep-all]
    [--smoke] [--offline]"""
    from suite.runs import results
    from suite.tuning import tuning

    options = split_options(arguments, ("data", "run-dir", "storage"), ("smoke", "offline", "keep-all"))
    experiment = resolve(word(options, "EXPERIMENT", "suite list"), options, "tune")
    folder = options.named.get("run-dir") or str(results.new_folder(f"{experiment.name}-tune"))
    try:
        verdict = tuning.tune(
            experiment, folder, storage=options.named.get("storage", ""), keep_all="keep-all" in options.named
        )
    except Interrupted as stopped:
        again = [*arguments, *([] if "run-dir" in options.named else ["--run-dir", folder])]
        raise stopped.within(stopped.folder, shlex.join(["suite", "tune", *again])) from None
    print(verdict)
    if not verdict.met:
        raise Missed(verdict.sentence)
