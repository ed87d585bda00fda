"""predict, convert: what is done with trained weights."""

from suite.cli.options import allow, no_more, split_options, word
from suite.errors import InputError


def convert(arguments: list[str]) -> None:
    """suite convert RUN|FOLDER|OWNER/NAME --to FOLDER [--offline] [--delta] [--allow PACKAGE]"""
    from suite.runs import verbs

    options = split_options(arguments, ("to", "allow"), ("offline", "delta"))
    usage = "suite convert RUN --to FOLDER"
    no_more(options.words[1:] + options.rest, usage)
    source = word(options, "RUN, FOLDER or OWNER/NAME", usage)
    if "to" not in options.named:
        raise InputError("flag --to", "is missing.", fix=usage)
    if "delta" in options.named:
        print(verbs.delta(source, options.named["to"], allow(options)))
        return
    written = verbs.convert(source, options.named["to"], offline="offline" in options.named, allow=allow(options))
    print(f"{written.format}: {written.tensors} tensors, {written.values:,} values")
    print(f"files: {', '.join(written.files)}")
    if written.left_out:
        print(f"left out: {', '.join(written.left_out)}")
    print(written.folder)
