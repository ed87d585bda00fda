"""Planning: the cost of a step on devices that need not be present."""
