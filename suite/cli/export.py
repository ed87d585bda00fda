"""export: what leaves the house."""

from typing import Any

from suite.cli.options import allow, no_more, split_options, word
from suite.errors import InputError


def export(arguments: list[str]) -> None:
    """suite export RUN --to BUNDLE [--platforms cpu cuda tpu] [--name NAME] [--licence TEXT] [--allow PACKAGE] |
    export RUN --to huggingface | export RUN --format huggingface --to FOLDER |
    export --refresh BUNDLE [--to BUNDLE] [--platforms cpu cuda tpu]"""
    from suite.bundles.bundle import Bundle
    from suite.exporting import exporting, refreshing
    from suite.exporting.tracing import PLATFORMS

    arguments, platforms = _platforms(arguments)
    options = split_options(arguments, ("to", "name", "licence", "format", "refresh", "allow"))
    named = options.named
    if "refresh" in named:
        no_more(options.words + options.rest, "suite export --refresh BUNDLE")
        fixed = next((name for name in ("name", "licence", "format") if name in named), None)
        if fixed is not None:
            raise InputError(
                f"flag --{fixed}",
                "says what a refreshed bundle keeps as it is.",
                found=named[fixed],
                fix="suite export RUN, or leave it out",
            )
        _print(refreshing.refresh(named["refresh"], named.get("to", ""), platforms=platforms, allow=allow(options)))
        return
    usage = "suite export RUN --to BUNDLE"
    no_more(options.words[1:] + options.rest, usage)
    source = word(options, "RUN", usage)
    if "to" not in named:
        raise InputError("flag --to", "is missing.", fix=usage)
    exported = exporting.export(
        source,
        named["to"],
        platforms=platforms or PLATFORMS,
        name=named.get("name", ""),
        licence=named.get("licence", ""),
        format=named.get("format", "bundle"),
        allow=allow(options),
    )
    if isinstance(exported, Bundle):
        _print(exported)
    else:
        print(f"{exported.format}: {exported.tensors} tensors, {exported.values:,} values\n{exported.folder}")


def _platforms(arguments: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """The arguments without ``--platforms`` and the names behind it, and those names."""
    from suite.exporting.tracing import PLATFORMS

    if "--platforms" not in arguments:
        return arguments, ()
    at = arguments.index("--platforms")
    end = at + 1
    while end < len(arguments) and arguments[end] in PLATFORMS:
        end += 1
    if end == at + 1:
        given = arguments[end] if end < len(arguments) else "nothing"
        raise InputError(
            "flag --platforms", "names no platform.", found=given, fix=f"--platforms {' '.join(PLATFORMS)}"
        )
    return arguments[:at] + arguments[end:], tuple(arguments[at + 1 : end])


def _print(bundle: Any) -> None:
    about = bundle.manifest
    size = sum(file["bytes"] for file in about.files.values())
    print(f"{about.name}, version {about.version}: {len(about.files)} files, {size:,} bytes")
    rows = "" if bundle.lengths == (0,) else f"; rows padded to {', '.join(map(str, bundle.lengths))}"
    print(f"programs for {', '.join(about.platforms)}{rows}")
    if len(bundle.programs) > 1:
        print(f"answers by {', '.join(bundle.programs)}")
    print(f"answers {about.made['checked']} as {about.made['from']} does")
    print(bundle.folder)
