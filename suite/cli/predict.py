"""predict, convert: what is done with trained weights."""

import json

from suite.cli.options import allow, no_more, split_options, word
from suite.errors import InputError


def predict(arguments: list[str]) -> None:
    """suite predict RUN|BUNDLE --input TEXT|FILE|FOLDER|- [--allow PACKAGE]"""
    from suite.workflow import folders

    options = split_options(arguments, ("input", "allow"))
    no_more(options.words[1:] + options.rest, 'suite predict RUN --input "some text"')
    opened = folders.open(word(options, "RUN", "the folder that suite train printed last"), allow(options))
    if "input" not in options.named:
        raise InputError("flag --input", "is missing.", fix='--input "some text", a file, a folder, or - for lines')
    for line in folders.predict_input(opened, options.named["input"]):
        print(json.dumps(line, ensure_ascii=False))
