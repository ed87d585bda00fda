"""Progress of a version that is being compiled: one program, padded length and batch size after the other."""

import logging
import time
from dataclasses import dataclass, field

log = logging.getLogger("suite.serving")

TOLD_S = 2.0
"""Seconds between two lines of the log on one model's compilation."""


@dataclass(eq=False)
class Warming:
    """How far a version is compiled: one program, padded length and batch size after the other.

    Attributes:
        model: its name.
        of: compilations in all.
        place: of the one at work, from 1; 0 before the first.
    """

    model: str
    of: int
    place: int = 0
    _told: float = field(default_factory=time.monotonic)

    def next(self) -> None:
        """The next one begins; written to the log now and then, and of the last one."""
        self.place += 1
        now = time.monotonic()
        if now - self._told >= TOLD_S or self.place in (1, self.of):
            self._told = now
            log.info("%s", self)

    def __str__(self) -> str:
        return f"{self.model}: compiling {max(self.place, 1)} of {self.of}"

    def to_json(self) -> dict[str, int]:
        """For the list of models."""
        return {"compiling": self.place, "of": self.of}
