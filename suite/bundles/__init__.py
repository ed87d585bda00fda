"""Bundles: opened and queried without training code, Flax or the tasks."""
