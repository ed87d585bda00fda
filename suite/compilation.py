"""The persistent compilation cache, and a watch on what the compiler does while a run lasts."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_HIT = "/jax/compilation_cache/cache_hits"
_MISS = "/jax/compilation_cache/cache_misses"
_SAVED = "/jax/compilation_cache/compile_time_saved_sec"
_BUILT = "/jax/core/compile/backend_compile_duration"  # also recorded when the program comes from the cache


def cache_folder(directory: str | Path | None = None) -> Path | None:
    """Where compiled programs are kept: ``directory``, else ``$SUITE_CACHE/xla``, else ``~/.cache/suite/xla``.

    None with SUITE_CACHE=off.
    """
    if directory is not None:
        return Path(directory)
    root = os.environ.get("SUITE_CACHE", "")
    if root == "off":
        return None
    return (Path(root) if root else Path.home() / ".cache" / "suite") / "xla"


def enable_cache(directory: str | Path | None = None) -> Path | None:
    """Keep every compiled program on disk, so that the next start of the same experiment compiles nothing.

    A folder that cannot be written turns the cache off instead of failing the run.

    Returns:
        The folder, or None where the cache is off.
    """
    folder = cache_folder(directory)
    if folder is None:
        return None
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

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


class CompileWatch:
    """Counts compilations from ``start`` (or entering it as a context manager) until ``close``.

    Attributes:
        compilations: programs made ready to run, those read from the cache among them.
        hits: programs read from the persistent cache.
        misses: programs compiled and added to it.
        seconds: spent compiling or reading.
        seconds_saved: compile time of the cached programs less the time to read them.
        recent: names of the last programs, at most 8, newest last.
    """

    def __init__(self) -> None:
        self.compilations = 0
        self.hits = 0
        self.misses = 0
        self.seconds = 0.0
        self.seconds_saved = 0.0
        self.recent: list[str] = []
        self._listening = False

    def start(self) -> Self:
        """Begin to listen to jax."""
        import jax

        if not self._listening:
            jax.monitoring.register_event_listener(self._on_event)
            jax.monitoring.register_event_duration_secs_listener(self._on_duration)
            self._listening = True
        return self

    def close(self) -> None:
        """Stop listening; the counts stay."""
        import jax

        if self._listening:
            jax.monitoring.unregister_event_listener(self._on_event)
            jax.monitoring.unregister_event_duration_listener(self._on_duration)
            self._listening = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def counts(self) -> dict[str, float]:
        """The counts, named as the log names them."""
        return {
            "compile/programs": self.compilations,
            "compile/cache_hits": self.hits,
            "compile/cache_misses": self.misses,
            "compile/seconds": self.seconds,
            "compile/seconds_saved": self.seconds_saved,
        }

    def summary(self) -> str:
        """One line for people."""
        return (
            f"compiled {self.compilations} programs in {self.seconds:.1f} s: {self.hits} from the cache, "
            f"which saved {self.seconds_saved:.1f} s, {self.misses} new in it"
        )

    def _on_event(self, event: str, **_: Any) -> None:
        if event == _HIT:
            self.hits += 1
        elif event == _MISS:
            self.misses += 1

    def _on_duration(self, event: str, duration: float, **details: Any) -> None:
        if event == _BUILT:
            self.compilations += 1
            self.seconds += duration
            self.recent = [*self.recent, str(details.get("fun_name", ""))][-8:]
        elif event == _SAVED:
            self.seconds_saved += duration
