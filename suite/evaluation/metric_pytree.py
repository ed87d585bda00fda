"""Metric states as JAX trees: with this module imported, jitted functions take and return `MetricState`.

Registered here and not beside the class, since contracts load no JAX.
"""

import jax

from suite.contracts.metric import MetricState

jax.tree_util.register_dataclass(MetricState)
