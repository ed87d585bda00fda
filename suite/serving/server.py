"""``suite serve`` as a function: checks what was given, listens, and runs until it is asked to stop."""

import importlib.util
import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from suite.distribution import missing
from suite.errors import InputError
from suite.runtime.files import is_bundle
from suite.serving.logs import LineFormatter
from suite.serving.settings import Settings
from suite.weights import hub

PACKAGES = ("fastapi", "httptools", "prometheus_client", "python_multipart", "uvicorn", "uvloop")
"""Packages of the extra ``serve``."""
TOKEN = "SUITE_TOKEN"
"""Variable that holds the bearer token, where no file does."""


def serve(bundles: Sequence[str | Path], settings: Settings | None = None, *, offline: bool = False) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then finish what has been accepted.

    Args:
        bundles: folders that ``suite export`` wrote; NAME=FOLDER to serve one under another name; or folders of them;
            or ``owner/name`` of a bundle that ``suite publish`` sent.
        settings: where to listen, and the limits.
        offline: take names on the hub from the local cache only.

    Raises:
        InputError: a bundle cannot be used, or the address is taken.
        RunError: a model cannot be compiled.
    """
    if absent := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise missing(", ".join(absent), "to serve", "serve")
    settings = settings or Settings()
    settings.check()
    token = read_token(settings.token_file)
    admin = read_token(settings.admin_token_file) if settings.admin_token_file else ""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("suite.serving").setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a form that is broken is told to its sender
    from suite.serving.uvicorn_server import run

    run([_local(str(bundle), offline) for bundle in bundles], settings, token, admin)


def _local(given: str, offline: bool) -> str:
    """NAME=FOLDER of a bundle that was published as ``owner/name``, once it has been fetched; others as they are."""
    name, equals, source = given.rpartition("=")
    if not hub.is_name(source):
        return given
    folder = hub.local(source, offline)
    if not is_bundle(folder):
        problem = "is a run on the Hugging Face hub, and a bundle is served."
        fix = f"suite export {shlex.quote(source)} --to bundles/mine && suite serve bundles/mine"
        raise InputError(f'"{source}"', problem, fix=fix)
    return f"{name if equals else source.partition('@')[0].partition('/')[2]}={folder}"


def read_token(file: str) -> str:
    """The bearer token: from the file, else from the variable SUITE_TOKEN; empty: none is asked for.

    Raises:
        InputError: the file is not there, or it holds no token of one word.
    """
    where = f'token file "{file}"' if file else f"variable {TOKEN}"
    try:
        token = Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get(TOKEN, "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(where, "cannot be read.", found=str(error)) from None
    if (file and not token) or not token.isascii() or len(token.split()) > 1:
        raise InputError(where, "holds no token: one word of ASCII characters.", fix="openssl rand -hex 32 > FILE")
    return token
