"""What a process does that tries a version before the server touches it: see `suite.serving.trial`."""

import contextlib
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from suite.errors import InputError, first_line
from suite.runtime import child
from suite.serving.errors import Refused

Say = Callable[[dict[str, Any]], None]


def load() -> None:
    """Imports what a trial needs, and asks for no device."""
    import jax  # noqa: F401

    import suite.bundles.bundle
    import suite.bundles.engines
    import suite.bundles.signing
    import suite.runtime.compilation  # noqa: F401


def answer(request: dict[str, Any], output: TextIO) -> None:
    """Tries what is asked for, and writes a line of JSON for each step to ``output``."""

    def say(message: dict[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    try:
        told = _try(request, say) if request["catalogue"] is None else _replace(request)
        took = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        say({"done": True, "bytes": took, **told})
    except Refused as error:
        say({"request": [error.status, error.code, error.message, error.field, error.fix]})
    except InputError as error:
        say({"refused": [error.where, error.problem, error.found, error.fix]})
    except (MemoryError, OSError) as error:
        say({"passing": f"{type(error).__name__}: {getattr(error, 'strerror', '') or error}"})
    except Exception as error:  # of JAX and XLA: many kinds
        reason = first_line(error, 500)
        say({"passing" if "RESOURCE_EXHAUSTED" in str(error) else "failed": reason})


def _try(request: dict[str, Any], say: Say) -> dict[str, Any]:
    """Opens a bundle, compiles it and runs it; or reads its programs alone, where another process has the device. Says
    what computed."""
    _prepare(request)
    from suite.bundles import engines, integrity, manifest, onnx_files, programs, signing
    from suite.bundles.bundle import Bundle, device
    from suite.runtime.compilation import enable_cache

    folder = Path(request["folder"])
    if not request["compile"]:
        stated = manifest.read_bytes(folder)
        signing.signed_by(folder, stated, request["trust"])
        for file, content in integrity.check(folder, manifest.read(folder, stated))[0].items():
            where = f'bundle "{folder}", file "{file}"'
            if file.endswith(".onnx"):
                onnx_files.check(content, where)
            else:
                programs.read(content, where, "?")
        return {"device": ""}
    enable_cache(Path(request["cache"]))
    bundle = Bundle.open(folder, tuple(request["allow"]), cache=False, trust=request["trust"])
    engines.warmed(bundle, request["engine"], request["sizes"], lambda: say({"begun": True}))
    return {"device": device()}


def _replace(request: dict[str, Any]) -> dict[str, Any]:
    """Writes the bundle with the records of a request as its catalogue; says how many are used, and what is left out.

    Raises:
        Refused: the body is no table of such records.
    """
    _prepare(request)
    from suite.bundles import catalogue, manifest
    from suite.bundles.codecs import read_codec
    from suite.runtime.compilation import enable_cache
    from suite.serving.checks import Checks
    from suite.serving.settings import Settings
    from suite.serving.uploads import records_of

    given, folder, allow = request["catalogue"], Path(request["folder"]), tuple(request["allow"])
    about = manifest.read(folder)
    if about.catalogue is None:
        raise catalogue.no_catalogue(f'bundle "{folder}"', list(about.programs))
    codec = read_codec(folder, about, about.catalogue.codec, allow)
    checks = Checks(codec.inputs, codec.primary, codec.texts, Settings(**given["limits"]), styles=codec.styles)
    columns = records_of(Path(given["body"]).read_bytes(), given["media"], checks)
    enable_cache(Path(request["cache"]))
    embedded = catalogue.replace(
        folder, [columns], given["to"], called="a request", allow=allow, trust=request["trust"], check=False
    )
    return {"records": len(embedded), "left_out": embedded.left_out.lines()}


def _prepare(request: dict[str, Any]) -> None:
    """The process has the device, where another does not, and no more memory than it may."""
    _yield_to_others()
    import jax

    if not request["compile"]:
        jax.config.update("jax_platforms", "cpu")
    if jax.default_backend() == "cpu":  # drivers of other devices reserve more than they use
        _bound_memory(request["bytes"])


def _yield_to_others() -> None:
    """Requests are computed first, and where the machine runs out of memory this is the process that ends."""
    with contextlib.suppress(OSError):
        os.nice(5)
        Path("/proc/self/oom_score_adj").write_text("1000")


def _bound_memory(most: int) -> None:
    """Allocations beyond ``most`` bytes fail; 0: beyond what the machine has free."""
    most = most or child.available()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if most and (hard == resource.RLIM_INFINITY or most <= hard):
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
