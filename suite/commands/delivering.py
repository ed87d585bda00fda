"""run: a recipe tuned, compressed, exported and reported on."""

import shlex
from pathlib import Path

from suite.commands.compressing import max_drop, method_of
from suite.commands.options import resolve, split_options, word
from suite.errors import Interrupted, Missed


def run(arguments: list[str]) -> None:
    """suite run EXPERIMENT [--section.field VALUE ...] [--data PATH] [--quantize int8 [--aware] | --prune SHARE |
    --distill EXPERIMENT | --as-trained] [--max-drop 0.005] [--run-dir DIR] [--name NAME] [--licence TEXT]
    [--storage URL]"""
    from suite import delivery
    from suite import run as runs

    options = split_options(
        arguments,
        ("data", "run-dir", "storage", "quantize", "prune", "distill", "max-drop", "name", "licence"),
        ("smoke", "offline", "aware", "baseline", "as-trained"),
    )
    named = options.named
    if "as-trained" not in named and not {"quantize", "prune", "distill"} & named.keys():
        named["quantize"] = "int8"
    experiment = resolve(word(options, "EXPERIMENT", "suite list"), options, "run")
    folder = named.get("run-dir") or str(runs.new_folder(f"{experiment.name}-run"))
    most = max_drop(options)
    try:
        made = delivery.deliver(
            experiment, folder, method=None if "as-trained" in named else method_of(options),
            max_drop=delivery.MAX_DROP if most is None else most, name=named.get("name", ""),
            licence=named.get("licence", ""), storage=named.get("storage", ""),
        )  # fmt: skip
    except (Interrupted, KeyboardInterrupt) as stopped:
        again = shlex.join(["suite", "run", *arguments, *([] if "run-dir" in named else ["--run-dir", folder])])
        step, saved, of = ((stopped.step, stopped.saved, stopped.of) if isinstance(stopped, Interrupted)
                           else (None, None, ""))  # fmt: skip
        raise Interrupted(Path(folder), step, saved, again=again, of=of) from None
    print(made)
    print(made.folder)
    if not made.met:
        raise Missed(made.tuned.sentence)
