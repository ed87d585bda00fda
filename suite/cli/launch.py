"""suite launch: several processes on this machine."""

import sys
from dataclasses import dataclass

from suite.cli.flags import Flags, Verb, command, flag
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Launch(Flags):
    """Starts N processes on this machine, as a pod would run them."""

    verb = "launch"
    examples = ("suite launch --processes 2 -- train text.classify --data reviews.csv --run-dir runs/reviews",)

    processes: int = flag(0, example="2", otherwise="must be given", least=1)
    """How many processes to start."""
    command: tuple[str, ...] = command("-- VERB ...", example="-- train text.classify --data reviews.csv")
    """What each of them runs: train EXPERIMENT ... or evaluate RUN ..."""


def launch(given: Launch) -> None:
    from suite.parallel.launch import launch as start

    if not given.processes:
        raise InputError("flag --processes", "is missing.", fix=Launch.examples[0])
    if not given.command:
        raise InputError("command", "is missing: -- and a verb.", fix=Launch.examples[0])
    if code := start(given.processes, list(given.command)):
        sys.exit(code)


VERB = Verb(Launch, launch)
