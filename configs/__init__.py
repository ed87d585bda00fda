"""Recipes: one experiment a file, loaded by dotted name and imported by nobody."""
