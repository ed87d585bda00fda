"""predict, convert: what is done with trained weights."""

import json

from suite.commands.options import allow, no_more, split_options, word
from suite.errors import InputError


def predict(arguments: list[str]) -> None:
    """suite predict RUN|BUNDLE --input TEXT|FILE|FOLDER|- [--allow PACKAGE]"""
    from suite import folders

    options = split_options(arguments, ("input", "allow"))
    no_more(options.words[1:] + options.rest, 'suite predict RUN --input "some text"')
    opened = folders.open(word(options, "RUN", "the folder that suite train printed last"), allow(options))
    if "input" not in options.named:
        raise InputError("flag --input", "is missing.", fix='--input "some text", a file, a folder, or - for lines')
    for line in folders.predict_input(opened, options.named["input"]):
        print(json.dumps(line, ensure_ascii=False))


def convert(arguments: list[str]) -> None:
    """suite convert RUN|FOLDER|OWNER/NAME --to FOLDER [--offline] [--delta] [--allow PACKAGE]"""
    from suite import run

    options = split_options(arguments, ("to", "allow"), ("offline", "delta"))
    usage = "suite convert RUN --to FOLDER"
    no_more(options.words[1:] + options.rest, usage)
    source = word(options, "RUN, FOLDER or OWNER/NAME", usage)
    if "to" not in options.named:
        raise InputError("flag --to", "is missing.", fix=usage)
    if "delta" in options.named:
        print(run.delta(source, options.named["to"], allow(options)))
        return
    made = run.convert(source, options.named["to"], offline="offline" in options.named, allow=allow(options))
    print(f"{made.format}: {made.tensors} tensors, {made.values:,} values")
    print(f"files: {', '.join(made.files)}")
    if made.left_out:
        print(f"left out: {', '.join(made.left_out)}")
    print(made.folder)
