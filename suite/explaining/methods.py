"""Methods by name."""

import shlex
from collections.abc import Callable

from suite.errors import InputError, closest
from suite.explaining.attention import attention
from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import Explanation
from suite.explaining.gradcam import gradcam
from suite.explaining.integrated_gradients import integrated_gradients
from suite.explaining.occlusion import occlusion
from suite.explaining.shapley import shapley

Method = Callable[[Explainer, Case], Explanation]

METHODS: dict[str, Method] = {
    "integrated-gradients": integrated_gradients,
    "gradcam": gradcam,
    "attention": attention,
    "attention-rollout": lambda explainer, case: attention(explainer, case, "rollout"),
    "shapley": shapley,
    "occlusion": occlusion,
}


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: there is none.
    """
    if name not in METHODS:
        fix = f"--method {shlex.quote(closest(name, METHODS) or 'integrated-gradients')}"
        raise InputError("flag --method", f'"{name}" is none.', found=", ".join(METHODS), fix=fix)
    return METHODS[name]
