"""predict, convert: what is done with trained weights."""

import json

from suite.cli.options import allow, no_more, split_options, word
from suite.errors import InputError


def predict(arguments: list[str]) -> None:
    """suite predict RUN|BUNDLE --input TEXT|FILE|FOLDER|- [--to FOLDER] [--allow PACKAGE]"""
    from suite.workflow import folders

    options = split_options(arguments, ("input", "to", "allow"))
    no_more(options.words[1:] + options.rest, 'suite predict RUN --input "some text"')
    opened = folders.open(word(options, "RUN", "the folder that suite train printed last"), allow(options))
    if "input" not in options.named:
        raise InputError("flag --input", "is missing.", fix='--input "some text", a file, a folder, or - for lines')
    answers = folders.predict_input(opened, options.named["input"])
    if "to" in options.named:
        lines = folders.write_answers(answers, options.named["to"])
    else:
        lines = [folders.printable(opened.codec, answer) for answer in answers]
    for line in lines:
        print(json.dumps(line, ensure_ascii=False))
