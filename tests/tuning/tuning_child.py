"""`suite tune` as the command line runs it, stopped at given places, once each; run as a script by test_tuning.

Arguments: a file that notes which places were reached, the places, separated by commas, and those of the command line.
A place is ``kill:WHERE`` or ``terminate:WHERE``; see ``main``.
"""

import os
import signal
import sys
from pathlib import Path

from suite.cli import app
from suite.runs import verbs
from suite.tuning import verdict
from suite.tuning.study import Study

SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}


def main(reached: Path, places: list[str], arguments: list[str]) -> None:
    """Stops at ``begun/N`` (nothing but the database knows of trial N), ``step/N/S`` (before step S is trained),
    ``trained/N`` (nothing knows that its training is over), ``noted/N`` or ``verdict`` (before it is written)."""

    def at(where: str) -> None:
        for kind, number in SIGNALS.items():
            place = f"{kind}:{where}"
            if place in places and place not in reached.read_text().split():
                with reached.open("a") as file:
                    file.write(f"{place}\n")
                os.kill(os.getpid(), number)

    train, begin, end, write = verbs.train, Study.begin, Study.end, verdict.write

    def training(experiment, folder, *, on_dispatch, **named):
        def dispatched(item):
            at(f"step/{int(folder.name)}/{item.first}")
            on_dispatch(item)

        made = train(experiment, folder, on_dispatch=dispatched, **named)
        at(f"trained/{int(folder.name)}")
        return made

    def beginning(study):
        number = begin(study)
        at(f"begun/{number}")
        return number

    def ending(study, number, *about):
        end(study, number, *about)
        at(f"noted/{number}")

    def writing(*told):
        at("verdict")
        write(*told)

    verbs.train, Study.begin, Study.end, verdict.write = training, beginning, ending, writing
    app.main(arguments)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:])
