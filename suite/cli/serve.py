"""suite serve: bundles behind an address."""

import os
import sys
from dataclasses import dataclass, fields

from suite.cli.flags import Flags, Verb, flag, word
from suite.serving.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Serve(Flags, Settings):
    """Answers requests to bundles over HTTP, with a web page to ask on."""

    verb = "serve"
    examples = (
        "suite serve bundles/reviews --port 8080",
        "suite serve mood=bundles/reviews bundles/photos --host 0.0.0.0 --token-file token.txt",
    )
    notes = "Stops on SIGTERM and Ctrl-C, and looks for new versions of the bundles on SIGHUP."

    bundles: tuple[str, ...] = word(
        "BUNDLE ...", example="bundles/reviews", fix="suite export runs/reviews --to bundles/reviews"
    )
    """Bundles, under their own names or as NAME=BUNDLE under others; folders of bundles; or OWNER/NAME on the hub."""
    offline: bool = flag(False, otherwise="names on the hub are fetched")
    """Take published bundles from the local cache only."""


def serve(given: Serve) -> None:
    from suite.serving.server import serve as run

    run(
        list(given.bundles),
        Settings(**{field.name: getattr(given, field.name) for field in fields(Settings)}),
        offline=given.offline,
    )
    # A thread may be computing what nobody waits for any more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


VERB = Verb(Serve, serve)
