"""Recipes for tables of any columns."""
