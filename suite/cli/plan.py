"""list, doctor, data inspect, plan: what can be known before a run."""

from suite.cli.options import resolve, split_options, word


def plan(arguments: list[str]) -> None:
    """suite plan EXPERIMENT [--devices NAME] [--section.field VALUE ...] [--data PATH]"""
    from suite.planning import planning
    from suite.runs import verbs

    options = split_options(arguments, ("data", "devices"), ("smoke", "offline"))
    experiment = resolve(word(options, "EXPERIMENT", "suite list"), options, "plan")
    print(planning.render(verbs.plan(experiment, options.named.get("devices", ""))))
