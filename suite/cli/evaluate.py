"""train, evaluate, launch: what takes part in a run of one process or several."""

from suite.cli.options import allow, no_more, split_options, word
from suite.cli.train import _finish
from suite.errors import InputError


def evaluate(arguments: list[str]) -> None:
    """suite evaluate RUN|BUNDLE [--split test] [--batch-size N] [--allow PACKAGE]; of several processes each with
    [--coordinator HOST:PORT --processes N --process-id I] [--join-seconds S] [--lost-seconds S]"""
    from suite.parallel import rendezvous
    from suite.runtime.files import is_bundle
    from suite.workflow import folders

    options = split_options(arguments, ("split", "batch-size", "allow", *rendezvous.FLAGS))
    no_more(options.words[1:] + options.rest, "suite evaluate RUN [--split test] [--batch-size N]")
    size = options.named.get("batch-size", "0")
    if not size.isdecimal():
        raise InputError("flag --batch-size", f'"{size}" is no number of rows.', fix="--batch-size 64")
    folder, split = word(options, "RUN", "the folder that suite train printed last"), options.named.get("split", "test")
    if is_bundle(folder):
        from suite.exporting.measure import measured

        for name, about in measured(folder, split, int(size), allow(options)).metrics.items():
            print(f"{name:32} {about['value']:.6g}")
        print(folder)
        return
    with rendezvous.joined(rendezvous.find_place(options.named)):
        _finish(folders.evaluate(folder, split, int(size), allow(options)))
