"""Pictures of a task, which stand beside the domains: `suite.tasks.pictures`."""

from suite.tasks.pictures import Pictures

__all__ = ["Pictures"]
