"""Names on the Hugging Face hub: what is fetched of them, and the runs and bundles that ``suite publish`` put there."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from suite.errors import InputError, first_line
from suite.runtime.compilation import cache_root
from suite.runtime.files import is_bundle, is_run

RUN, BUNDLE = "run", "bundle"
"""Folders of a published repository: a run without its weights, which lie beside it; a bundle as it was exported."""
_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?\Z")


_FOLDERS = ("bundles", "runs")
"""Where the suite's own folders lie by default: what is missing there is a folder, not a name."""


def is_name(source: str | Path) -> bool:
    """Whether ``source`` looks like ``owner/name`` or ``owner/name@revision``, and neither it nor ``owner`` is a folder
    here."""
    owner = str(source).partition("/")[0]
    here = owner in _FOLDERS or Path(owner).exists() or Path(source).expanduser().exists()
    return bool(_NAME.match(str(source))) and not here


def local(source: str | Path, offline: bool = False) -> Path:
    """The folder of a run or bundle: ``source`` itself, or where what is published under that name has been fetched.

    Args:
        source: a folder, or ``owner/name`` or ``owner/name@revision`` on the hub.
        offline: take names from the local cache only.

    Raises:
        InputError: the hub does not give it, or it holds neither a run nor a bundle.
    """
    if not is_name(source):
        return Path(source)
    folder = _plain(fetch(str(source), offline, what="run or bundle"), str(source))
    if is_bundle(folder / BUNDLE):
        return folder / BUNDLE
    if is_run(folder / RUN):
        return folder / RUN
    raise InputError(
        f'"{source}" on the Hugging Face hub',
        "is no run and no bundle that suite publish put there.",
        found=", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing",
        fix=f"weights of other libraries: suite evaluate {source} --data PATH, or --checkpoint.init_from {source}",
    )


def fetch(
    name: str, offline: bool = False, patterns: Sequence[str] | None = None, nested: bool = True, what: str = "weights"
) -> Path:
    """The folder in the hub's cache that holds what is published under a name.

    Args:
        name: ``owner/name`` or ``owner/name@revision``.
        offline: take it from that cache only.
        patterns: of the files that are wanted; None: all.
        nested: whether files in folders are wanted, too.
        what: it is, for people.

    Raises:
        InputError: the cache lacks it, or the hub does not give it.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                local_files_only=offline,
                allow_patterns=None if patterns is None else list(patterns),
                ignore_patterns=None if nested else ["*/*"],
            )
        )
    except Exception as error:  # the hub's own, the HTTP library's and the system's
        verb, them = ("are", "them") if what == "weights" else ("is", "it")
        first = first_line(error)
        if offline:
            raise InputError(
                f'{what} "{name}"',
                f"{verb} not in the local cache of the Hugging Face hub.",
                found=first,
                fix="once without --offline, or a local folder",
            ) from None
        raise InputError(
            f'{what} "{name}"',
            f"{verb} no local folder, and the Hugging Face hub does not give {them}.",
            found=first,
            fix="a local folder, the right owner/name, or a network connection",
        ) from None


def _plain(snapshot: Path, name: str) -> Path:
    """The snapshot with plain files in the place of links, which a bundle may not hold. Made once a revision."""
    cache = cache_root()
    root = Path(tempfile.mkdtemp(prefix="suite-hub-")) if cache is None else cache / "hub"
    target = root / name.partition("@")[0].replace("/", "--") / snapshot.name
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=target.parent))
        shutil.copytree(snapshot, partial, dirs_exist_ok=True, copy_function=_linked)
        try:
            partial.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(partial)
    return target


def _linked(source: str, target: str) -> None:
    """A second name of the file, so that its bytes lie once on the disk, where the file system can."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
