"""serve: bundles behind an address."""

import os
import sys

from suite.cli.options import split_options


def serve(arguments: list[str]) -> None:
    """suite serve BUNDLE|NAME=BUNDLE|FOLDER_OF_BUNDLES ... [--host 127.0.0.1] [--port 8080] [--token-file FILE]
    [--allow PACKAGE] [--sizes 1 2 4 8 16 32] [--max-wait-ms MS] [--queue RECORDS] [--deadline-s S] [--drain-s S]
    [--watch-s S] [--max-body-bytes N] [--max-held-bytes N] [--max-records N] [--max-characters N] [--max-pixels N]
    [--max-seconds S] [--max-connections N] [--head-s S] [--body-s S] [--keep-alive-s S]; suite serve BUNDLE --help
    explains them"""
    import tyro

    from suite.serving.server import serve as run
    from suite.serving.settings import Settings

    options = split_options(arguments, ())
    about = "Bundles behind an address. Stops on SIGTERM and Ctrl-C, and looks for new versions on SIGHUP."
    run(options.words, tyro.cli(Settings, args=options.rest, prog="suite serve BUNDLE", description=about))
    # A thread may be computing what nobody waits for any more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
