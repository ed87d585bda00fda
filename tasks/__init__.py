"""Kinds of problems: each task is one final dataclass, in the package of its domain."""
