"""suite plan: what a run will cost."""

from dataclasses import dataclass

from suite.cli.flags import Verb, flag
from suite.cli.shared_flags import OfExperiment


@dataclass(frozen=True, kw_only=True)
class Plan(OfExperiment):
    """Says what a run will cost: parameters, FLOPs, memory a device, time a step, and what to change to make it fit."""

    verb = "plan"
    examples = ("suite plan vision.imagenet_resnet50 --devices a100", "suite plan text.classify --model.width 256")

    devices: str = flag("", value="NAME", example="a100", otherwise="the devices of this machine")
    """Devices to plan for, which need not be present."""


def plan(given: Plan) -> None:
    from suite.planning import planning
    from suite.runs import verbs

    print(planning.render(verbs.plan(given.resolved(), given.devices)))


VERB = Verb(Plan, plan)
