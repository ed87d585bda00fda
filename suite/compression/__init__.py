"""Smaller and faster models of trained ones, each followed by a fresh evaluation and a verdict."""
