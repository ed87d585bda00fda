"""Rules of `tests.training.rules` on 8 devices, by each engine: prints what training leaves, as JSON."""

import json

import jax

from suite.experiment.sections import replace
from tests.training import rules

LAYOUTS = {
    "mesh": {"parallel.data": 8},
    "fsdp": {"parallel.data": 4, "parallel.fsdp": 2},
    "pmap": {"parallel.engine": "pmap"},
}

if __name__ == "__main__":
    assert jax.device_count() == 8
    recipes = {"private": (rules.private(noise=0.5), None), "duel": (rules.duel(ema=0.9), None)}
    recipes["privately"] = rules.privately()
    made = {
        f"{name} {layout}": rules.summary(replace(recipe, fields), rule)
        for name, (recipe, rule) in recipes.items()
        for layout, fields in LAYOUTS.items()
    }
    print(json.dumps(made))
