"""train, evaluate, launch: what takes part in a run of one process or several."""

import sys

from suite.cli.options import no_more, split_options
from suite.errors import InputError


def launch(arguments: list[str]) -> None:
    """suite launch --processes N -- train EXPERIMENT ... | suite launch --processes N -- evaluate RUN ..."""
    from suite.parallel.launch import launch

    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, dashes, command = arguments[:at], arguments[at : at + 1], arguments[at + 1 :]
    options = split_options(own, ("processes",))
    usage = "suite launch --processes 2 -- train EXPERIMENT"
    no_more(options.words + options.rest, usage)
    number = options.named.get("processes", "")
    if not dashes or not number.isdecimal():
        problem = f'"{number}" is no number of processes.' if number else "or the -- before the verb is missing."
        raise InputError("flag --processes", problem, fix=usage)
    if code := launch(int(number), command):
        sys.exit(code)
