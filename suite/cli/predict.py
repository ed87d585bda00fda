"""predict, convert: what is done with trained weights."""

import json

from suite.cli.options import allow, no_more, split_options, word
from suite.errors import InputError


def predict(arguments: list[str]) -> None:
    """suite predict RUN|BUNDLE --input TEXT|FILE|FOLDER|- [--program NAME] [--seed N] [--to FOLDER]
    [--allow PACKAGE]"""
    from suite.workflow import folders

    options = split_options(arguments, ("input", "program", "seed", "to", "allow"))
    no_more(options.words[1:] + options.rest, 'suite predict RUN --input "some text"')
    opened = folders.open(word(options, "RUN", "the folder that suite train printed last"), allow(options))
    if "input" not in options.named:
        raise InputError("flag --input", "is missing.", fix='--input "some text", a file, a folder, or - for lines')
    program, seed = options.named.get("program", "predict"), options.named.get("seed", "0")
    if not seed.isdecimal():
        raise InputError("flag --seed", "must be a whole number.", found=seed, fix="--seed 0")
    codec = folders.codec_of(opened, program)
    answers = folders.predict_input(opened, options.named["input"], seed=int(seed), program=program)
    if "to" in options.named:
        lines = folders.write_answers(answers, options.named["to"])
    else:
        lines = [folders.printable(codec, answer) for answer in answers]
    for line in lines:
        print(json.dumps(line, ensure_ascii=False))
