"""list, doctor, data inspect, plan: what can be known before a run."""

import sys

from suite.cli.options import no_more


def doctor(arguments: list[str]) -> None:
    """suite doctor"""
    from suite.workflow.doctor import doctor as examine
    from suite.workflow.doctor import render

    no_more(arguments, "suite doctor")
    report = examine()
    print(render(report))
    if report["faults"]:
        sys.exit(1)
