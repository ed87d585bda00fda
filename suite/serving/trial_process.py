"""The process that tries a version before the server touches it: see `suite.serving.trial`."""

import contextlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.runtime import child

Say = Callable[[dict[str, Any]], None]


def main() -> None:
    """Reads what to try from the standard input, one line, and writes a line of JSON for each step."""
    child.limit(resource.RLIMIT_CORE, 0)
    child.end_with(os.getppid())
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not taken for a line of ours

    def say(message: dict[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    try:
        _try(json.loads(sys.stdin.readline()), say)
        say({"done": True})
    except InputError as error:
        say({"refused": [error.where, error.problem, error.found, error.fix]})
    except (MemoryError, OSError) as error:
        say({"passing": f"{type(error).__name__}: {getattr(error, 'strerror', '') or error}"})
    except Exception as error:  # of JAX and XLA: many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
        say({"passing" if "RESOURCE_EXHAUSTED" in str(error) else "failed": reason})
    os._exit(0)  # threads may still compute


def _try(request: dict[str, Any], say: Say) -> None:
    """Opens a bundle, compiles it and runs it; or reads its programs alone, where another process has the device."""
    _yield_to_others()
    import jax

    from suite.bundles import integrity, manifest, programs, signing
    from suite.bundles.bundle import Bundle
    from suite.runtime.compilation import enable_cache

    folder = Path(request["folder"])
    if not request["compile"]:
        jax.config.update("jax_platforms", "cpu")
    if jax.default_backend() == "cpu":  # drivers of other devices reserve more than they use
        _bound_memory(request["bytes"])
    if not request["compile"]:
        stated = manifest.read_bytes(folder)
        signing.signed_by(folder, stated, request["trust"])
        for file, content in integrity.check(folder, manifest.read(folder, stated))[0].items():
            programs.read(content, f'bundle "{folder}", file "{file}"', "?")
        return
    enable_cache(Path(request["cache"]))
    bundle = Bundle.open(folder, tuple(request["allow"]), cache=False, trust=request["trust"])
    for program in bundle.programs.values():
        program.warm(request["sizes"], lambda: say({"begun": True}))


def _yield_to_others() -> None:
    """Requests are computed first, and where the machine runs out of memory this is the process that ends."""
    with contextlib.suppress(OSError):
        os.nice(5)
        Path("/proc/self/oom_score_adj").write_text("1000")


def _bound_memory(most: int) -> None:
    """Allocations beyond ``most`` bytes fail; 0: beyond what the machine has free."""
    if not most:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path("/proc/meminfo").read_text().splitlines()
            most = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if most and (hard == resource.RLIM_INFINITY or most <= hard):
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
