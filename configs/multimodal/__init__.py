"""Recipes on pairs of modalities."""
