"""suite plan: what a run will cost."""

from dataclasses import dataclass
from typing import Literal

from suite.cli.flags import Verb, flag
from suite.cli.shared_flags import OfExperiment


@dataclass(frozen=True, kw_only=True)
class Plan(OfExperiment):
    """Says what a run will cost: parameters, FLOPs, memory a device, time a step, and what to change to make it fit."""

    verb = "plan"
    examples = ("suite plan vision.imagenet_resnet50 --devices a100", "suite plan text.classify --model.width 256")

    devices: str = flag("", value="NAME", example="a100", otherwise="the devices of this machine")
    """Devices to plan for, which need not be present."""
    compiler: Literal["auto", "real", "simulated"] = flag("auto", example="simulated")
    """auto: the devices' own where it is installed, else one for processors; real: none but their own; simulated."""


def plan(given: Plan) -> None:
    from suite.planning import planning
    from suite.runs import verbs

    print(planning.render(verbs.plan(given.resolved(), given.devices, given.compiler)))


VERB = Verb(Plan, plan)
