"""suite doctor: whether this machine has what is needed."""

import sys
from dataclasses import dataclass

from suite.cli.flags import Flags, Verb


@dataclass(frozen=True, kw_only=True)
class Doctor(Flags):
    """Shows versions, devices, memory and data folders of this machine, and the fix for each fault."""

    verb = "doctor"
    examples = ("suite doctor",)


def doctor(given: Doctor) -> None:
    from suite.workflow.doctor import doctor as examine
    from suite.workflow.doctor import render

    report = examine()
    print(render(report))
    if report["faults"]:
        sys.exit(1)


VERB = Verb(Doctor, doctor)
