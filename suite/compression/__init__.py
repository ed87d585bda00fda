"""A run made smaller and measured again: rounded, pruned or distilled. `suite.compress` is in `compressing`."""
