"""Codecs: requests as a model takes them, its outputs as answers. They load neither JAX nor Flax nor tasks."""
