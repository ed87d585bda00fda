"""Noise of Orbax and of the array library below it: lines on a save beside those of `suite.training.checkpoint`."""

import functools
import logging
import sys


@functools.cache
def quieten() -> None:
    """From now on a save that fails is told of once, in words, by whoever began it. Called again, it does nothing."""
    logging.getLogger("absl").addFilter(_is_news)
    before = sys.unraisablehook

    def hook(given: "sys.UnraisableHookArgs") -> None:
        if not _is_late(given):
            before(given)

    sys.unraisablehook = hook


def _is_news(record: logging.LogRecord) -> bool:
    """Waiting for the previous save is what a run of a few short epochs does; nobody need hear of it. Nor of the
    errors of a save, each logged by several threads of Orbax on its way to ``Checkpoints``, which tells of it once."""
    return not record.exc_info and not record.getMessage().startswith("Waiting for previous save")


def _is_late(given: "sys.UnraisableHookArgs") -> bool:
    """Whether a write ended after its save did. The first error of a save ends the event loop that waits for all its
    writes; each of the others that TensorStore then completes has nobody left to tell."""
    error = given.exc_value
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed" and given.object is None
