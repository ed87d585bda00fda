"""Recipes for recommendation."""
