"""run: a recipe tuned, compressed, exported and reported on."""

import shlex

from suite.cli.compress import FLAGS, OF, max_drop, method_of
from suite.cli.options import resolve, split_options, word
from suite.errors import InputError, Interrupted, Missed


def run(arguments: list[str]) -> None:
    """suite run EXPERIMENT [--section.field VALUE ...] [--data PATH] [--quantize int8 [--aware] | --prune SHARE |
    --distill EXPERIMENT [--baseline] | --as-trained] [--max-drop 0.005] [--run-dir DIR] [--name NAME]
    [--licence TEXT] [--storage URL] [--smoke] [--offline]"""
    from suite.compression import verdict
    from suite.runs import results as runs
    from suite.workflow import deliver

    options = split_options(
        arguments,
        ("data", "run-dir", "storage", "quantize", "prune", "distill", "max-drop", "name", "licence"),
        ("smoke", "offline", "aware", "baseline", "as-trained"),
    )
    named = options.named
    smaller = [f"--{name}" for name in (*FLAGS, *OF) if name in named]
    if "as-trained" in named and smaller:
        raise InputError(
            "flag --as-trained",
            "leaves the model as it is, and another flag makes it smaller.",
            found=", ".join(smaller),
            fix="one of them",
        )
    if "as-trained" not in named and not FLAGS.keys() & named.keys():
        named["quantize"] = "int8"
    experiment = resolve(word(options, "EXPERIMENT", "suite list"), options, "run")
    folder = named.get("run-dir") or str(runs.new_folder(f"{experiment.name}-run"))
    most = max_drop(options)
    method = None if "as-trained" in named else method_of(options)
    try:
        delivery = deliver.deliver(
            experiment,
            folder,
            method=method,
            max_drop=deliver.MAX_DROP if most is None else most,
            name=named.get("name", ""),
            licence=named.get("licence", ""),
            storage=named.get("storage", ""),
        )
    except Interrupted as stopped:
        again = ["suite", "run", *arguments, *([] if "run-dir" in named else ["--run-dir", folder])]
        raise stopped.within(stopped.folder, shlex.join(again)) from None
    print(delivery)
    print(delivery.folder)
    if not delivery.tuned.met:
        raise Missed(delivery.tuned.sentence)
    if not delivery.met:
        raise Missed(verdict.sentence(delivery.compressed or {}))
