"""The persistent compilation cache, and a watch on what the compiler does while a run lasts."""

import functools
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_HIT = "/jax/compilation_cache/cache_hits"
_MISS = "/jax/compilation_cache/cache_misses"
_SAVED = "/jax/compilation_cache/compile_time_saved_sec"
_BUILT = "/jax/core/compile/backend_compile_duration"  # also recorded when the program comes from the cache


def cache_root() -> Path | None:
    """Where all lies that can be made again: ``$SUITE_CACHE``, else ``~/.cache/suite``; None with SUITE_CACHE=off."""
    root = os.environ.get("SUITE_CACHE") or "~/.cache/suite"
    return None if root == "off" else Path(root).expanduser()


def cache_folder() -> Path | None:
    """Where compiled programs are kept; None where nothing is."""
    root = cache_root()
    return None if root is None else root / "xla"


def enable_cache(folder: Path | None = None) -> Path | None:
    """Keep every compiled program on disk, so that the next start of the same experiment compiles nothing.

    A folder that cannot be written turns the cache off instead of failing the run.

    Args:
        folder: where; None: see `cache_folder`.

    Returns:
        The folder, or None where the cache is off.
    """
    private, folder = folder is not None, folder or cache_folder()
    if folder is None:
        return None
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    if private:
        # Caches of XLA's own would lie in the folder, whose name is then a part of every program's key: what one folder
        # holds would be of no use in another.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if jax.config.jax_compilation_cache_dir != str(folder):
        # jax looks at its settings once, at the first compilation, which may have been before this call.
        reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # jax keeps only programs that took a second to compile; a small model has none, yet dozens of small ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def disable_cache() -> None:
    """Keep compiled programs in memory alone from now on."""
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    jax.config.update("jax_compilation_cache_dir", None)
    reset_cache()


class CompileWatch:
    """Counts compilations from when it is made until ``close``; also a context manager.

    Attributes:
        compilations: programs made ready to run, those read from the cache among them.
        hits: programs read from the persistent cache.
        misses: programs compiled and added to it.
        seconds: spent compiling or reading.
        seconds_saved: compile time of the cached programs less the time to read them.
    """

    def __init__(self) -> None:
        self.compilations = 0
        self.hits = 0
        self.misses = 0
        self.seconds = 0.0
        self.seconds_saved = 0.0
        _listen()
        _WATCHES.add(self)

    def close(self) -> None:
        """Stop counting; the counts stay."""
        _WATCHES.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def summary(self) -> str:
        """One line for people."""
        return (
            f"compiled {self.compilations} programs in {self.seconds:.1f} s: {self.hits} from the cache, "
            f"which saved {max(self.seconds_saved, 0.0):.1f} s, {self.misses} new in it"
        )


_WATCHES: weakref.WeakSet[CompileWatch] = weakref.WeakSet()
"""Watches that count. A watch that nobody holds any more leaves by itself, whereas jax would keep it for ever."""


@functools.cache
def _listen() -> None:
    """Register with jax, once a process."""
    import jax

    jax.monitoring.register_event_listener(_on_event)
    jax.monitoring.register_event_duration_secs_listener(_on_duration)


def _on_event(event: str, **_: Any) -> None:
    for watch in list(_WATCHES):
        if event == _HIT:
            watch.hits += 1
        elif event == _MISS:
            watch.misses += 1


def _on_duration(event: str, duration: float, **_: Any) -> None:
    for watch in list(_WATCHES):
        if event == _BUILT:
            watch.compilations += 1
            watch.seconds += duration
        elif event == _SAVED:
            watch.seconds_saved += duration
