"""Models by name, each in its current version: opened, warmed, put in place of the one before, and let go."""

import asyncio
import contextlib
import functools
import gc
import logging
import re
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from suite.bundles.bundle import Bundle
from suite.bundles.manifest import CARD
from suite.bundles.manifest import NAME as MANIFEST
from suite.errors import InputError, beside, closest
from suite.serving.endpoint import Endpoint, endpoint_of
from suite.serving.errors import Refused
from suite.serving.monitoring import Monitor
from suite.serving.settings import Settings
from suite.serving.snapshots import Copy, Identity, identity, sweep
from suite.serving.warming import Warming

T = TypeVar("T")
log = logging.getLogger("suite.serving")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(eq=False)
class Version:
    """One version of a model, from its first request to its last.

    Attributes:
        model: the name it is served under.
        bundle: what answers.
        endpoints: program -> what it is asked at.
        copy: the server's own copy of the bundle, so that nothing changes under a version that answers.
        card: the model card, in Markdown.
        users: requests that are being answered.
        retired: whether another version is in its place.
    """

    model: str
    bundle: Bundle
    endpoints: dict[str, Endpoint]
    copy: Copy
    card: str = ""
    users: int = 0
    retired: bool = False

    def __enter__(self) -> "Version":
        self.users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.users -= 1
        self._let_go()

    def retire(self) -> None:
        """No new request begins with it; when the last one has its answer, it is let go."""
        self.retired = True
        self._let_go()

    def _let_go(self) -> None:
        if self.retired and not self.users:
            self.close("this version is no longer served.")
            self.copy.remove()

    def endpoint(self, name: str) -> Endpoint:
        """What the program of that name is asked at.

        Raises:
            Refused: 404, there is none.
        """
        if name not in self.endpoints:
            nearest = closest(name[:100], self.endpoints) or ", ".join(self.endpoints)[:300]
            raise Refused(404, "unknown_program", f'{self.model} has no program "{name:.100}".', fix=nearest)
        return self.endpoints[name]

    def check_number(self, number: str) -> None:
        """Raises Refused: 404, another version than this one is asked for; empty: any will do."""
        if number and number != self.bundle.version:
            message = f'{self.model} is not served in version "{number:.100}".'
            raise Refused(404, "unknown_version", message, fix=self.bundle.version)

    def close(self, why: str) -> None:
        """Refuse what waits and what comes."""
        for endpoint in self.endpoints.values():
            endpoint.batcher.close(why)


@dataclass(eq=False)
class Model:
    """A name, where its versions are put, and the one that answers.

    Attributes:
        name: in addresses.
        folder: where new versions are looked for.
        stated: whether the user gave the name, whatever the bundle calls itself.
        current: the version that answers; None until the first is warm.
        problem: why the newest version in the folder is not served; empty where it is.
        warming: of the version that is being compiled, if one is.
        tried: identity of the folder when it was last opened.
        seen: the same at the last look.
    """

    name: str
    folder: Path
    stated: bool
    current: Version | None = None
    problem: str = ""
    warming: Warming | None = None
    tried: Identity = ()
    seen: Identity = ()


@dataclass(eq=False)
class Models:
    """All that is served.

    Args:
        given: FOLDER, NAME=FOLDER, or a folder of such folders, as on the command line.
        settings: of the server.
        monitor: counts batches and new versions.
    """

    given: Sequence[str]
    settings: Settings
    monitor: Monitor
    by_name: dict[str, Model] = field(default_factory=dict)
    _opened: list[tuple[Model, Bundle, Copy]] = field(default_factory=list)
    """Those that are not warm yet."""
    _retired: list[Version] = field(default_factory=list)
    """Versions that still answer what they have begun, and perhaps some that no longer do."""
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def open(self) -> None:
        """Open all bundles, before anything is listened for.

        Raises:
            InputError: one is none, is damaged, or two have one name.
        """
        sweep()
        for model in found(self.given):
            model.tried = model.seen = identity(model.folder)
            bundle, copy = self._opened_from(model.folder)
            self._opened.append((model, bundle, copy))
            if not model.stated:
                model.name = bundle.name
        _tell_apart([model for model, _, _ in self._opened])
        for model, _, _ in self._opened:
            if not _NAME.fullmatch(model.name):
                raise InputError(
                    f'model name "{model.name}"',
                    "is none for an address.",
                    fix=f"suite serve NAME={shlex.quote(str(model.folder))}",
                )
            if model.name in self.by_name:
                raise InputError(
                    f'model name "{model.name}"',
                    "is that of two bundles.",
                    found=f"{self.by_name[model.name].folder}, {model.folder}",
                    fix=f"suite serve OTHER_NAME={shlex.quote(str(model.folder))}",
                )
            self.by_name[model.name] = model

    async def warm(self) -> None:
        """Compile what was opened; each model answers as soon as it is warm. New versions are not looked at meanwhile:
        what was opened first would take the place of one that came after it."""
        async with self._looking:
            while self._opened:
                model, bundle, copy = self._opened[0]
                seconds = await self._serve(model, bundle, copy)
                log.info("%s %s is ready after %.1f s", model.name, bundle.version, seconds)
                del self._opened[0]
        _settle()

    @property
    def ready(self) -> bool:
        """Whether every model answers."""
        return all(model.current for model in self.by_name.values())

    @property
    def progress(self) -> str:
        """How far the models are, such as "reviews: compiling 7 of 30; photos: waiting"; empty where all answer."""
        waiting = [model for model in self.by_name.values() if model.current is None]
        return "; ".join(str(model.warming or f"{model.name}: waiting") for model in waiting)

    def version(self, name: str) -> Version:
        """The current version of a model.

        Raises:
            Refused: 404, there is no such model; 503, it is not warm yet.
        """
        model = self.by_name.get(name)
        if model is None:
            raise Refused(404, "unknown_model", f'there is no model "{name:.100}".', fix=", ".join(self.by_name)[:300])
        if model.current is None:
            why = f"{model.warming}." if model.warming else f"{name} is being compiled."
            raise Refused(503, "not_ready", why, fix="wait until /readyz says so", retry=1)
        return model.current

    async def look(self, at_once: bool = False) -> None:
        """See whether a folder holds another version, and serve it.

        A folder that is still being written is left alone until two looks in turn found it the same.

        Args:
            at_once: don't wait for the second look.
        """
        async with self._looking:
            for model in list(self.by_name.values()):
                now = await in_thread(functools.partial(identity, model.folder))
                settled, model.seen = at_once or now == model.seen, now
                if now and now != model.tried and settled:
                    model.tried = now
                    await self._swap(model)

    def _opened_from(self, folder: Path) -> tuple[Bundle, Copy]:
        return opened(folder, self.settings.allow, self.settings.trust)

    async def _swap(self, model: Model) -> None:
        """Open and warm the new version beside the old one, and let it answer; a bad one changes nothing."""
        copy = None
        try:
            bundle, copy = await in_thread(functools.partial(self._opened_from, model.folder))
            if not model.stated and model.current and not _same_model(model.current.bundle, bundle):
                raise InputError(
                    f"bundle {model.folder}",
                    "is that of another model.",
                    found=bundle.name,
                    fix=f"restart with {model.name}={model.folder}",
                )
            seconds = await self._serve(model, bundle, copy)
        except Exception as error:  # whatever a bad version does, the old one stays
            model.problem = str(error)
            log.error("%s: the new version in %s is refused: %s", model.name, model.folder, error)
            self.monitor.swapped(model.name, False)
            if copy is not None:
                copy.remove()
            return
        except asyncio.CancelledError:  # the server is stopping
            if copy is not None:
                copy.remove()
            raise
        model.problem = ""
        log.info("%s %s answers from now on, after %.1f s", model.name, bundle.version, seconds)
        self.monitor.swapped(model.name, True)
        _settle()

    async def _serve(self, model: Model, bundle: Bundle, copy: Copy) -> float:
        """Warm a bundle and let it answer; the version before answers what it has begun. Returns the seconds."""
        begun = time.perf_counter()
        settings = self.settings
        endpoints = {}
        count = sum(len(program.lengths) for program in bundle.programs.values()) * len(settings.sizes)
        model.warming = warming = Warming(model.name, count)
        try:
            for name, program in bundle.programs.items():
                measured = await in_thread(functools.partial(program.warm, settings.sizes, warming.next))
                endpoints[name] = endpoint_of(program, settings, measured, self.monitor.batches(model.name, name))
        finally:
            model.warming = None
        card = bundle.folder / CARD
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        if bundle.signed_by:
            text += f"\n## Signature\n\nThis bundle was signed with the key `{bundle.signed_by}`.\n"
        before, model.current = model.current, Version(model.name, bundle, endpoints, copy, text)
        if before is not None:
            before.retire()
            self._retired = [version for version in (*self._retired, before) if version.users]
        return time.perf_counter() - begun

    def close(self, why: str) -> None:
        """Refuse what waits, at versions that are no longer served too."""
        for version in (*self._retired, *(model.current for model in self.by_name.values())):
            if version is not None:
                version.close(why)

    def let_go(self) -> None:
        """Leave nothing behind on disk."""
        for copy in (*(copy for *_, copy in self._opened), *(version.copy for version in self._retired)):
            copy.remove()
        for model in self.by_name.values():
            if model.current is not None:
                model.current.retire()


async def in_thread(call: Callable[[], T]) -> T:
    """What ``call`` returns, from a thread that doesn't keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(value) if error is None else future.set_exception(error)  # type: ignore[arg-type]

    def work() -> None:
        try:
            result, error = call(), None
        except Exception as raised:
            result, error = None, raised
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="load", daemon=True).start()
    return await future


def found(given: Sequence[str]) -> list[Model]:
    """What the command line names, not yet opened.

    Raises:
        InputError: nothing is named, or there is no such folder, or no bundle in it.
    """
    models: list[Model] = []
    for item in given:
        name, equals, path = item.partition("=")
        folder = Path(path if equals else item)
        if not folder.is_dir():
            fix = beside(folder, MANIFEST) or "the folder that suite export printed last"
            raise InputError(f'bundle "{folder}"', "is no folder.", fix=fix)
        inside = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
        if (folder / MANIFEST).is_file() or equals or not inside:
            models.append(Model(name if equals else "", folder, bool(equals)))
        else:
            models += [Model("", bundle, False) for bundle in inside]
    if not models:
        raise InputError("BUNDLE", "is missing.", fix="suite serve BUNDLE")
    return models


def _tell_apart(models: Sequence[Model]) -> None:
    """Bundles that were given no name on the command line and share theirs with others are named after their folders,
    where these differ."""
    count = Counter(model.name for model in models)
    for model in models:
        name = model.folder.absolute().name
        if count[model.name] > 1 and not model.stated and not count[name] and _NAME.fullmatch(name):
            log.info('%s is served as "%s": other bundles are called "%s", too', model.folder, name, model.name)
            model.name = name


def _same_model(before: Bundle, now: Bundle) -> bool:
    """Whether a bundle may take the place of another: both have one recipe, or one name where either doesn't say it."""
    recipes = [bundle.manifest.made.get("recipe") for bundle in (before, now)]
    if all(recipes):
        return recipes[0] == recipes[1]
    tails = [str(recipe or "").rpartition(".")[2] for recipe in recipes]
    return bool({before.name, tails[0]} & {now.name, tails[1]} - {""})


def opened(folder: Path, allow: tuple[str, ...] = (), trust: str = "") -> tuple[Bundle, Copy]:
    """The bundle in ``folder``, from a copy that is the server's own; and that copy.

    Args:
        folder: what suite export wrote.
        allow: packages whose classes its codec may name.
        trust: public keys, one of which must have signed it; empty: it need not be signed.

    Raises:
        InputError: it is no bundle, a damaged one, or not signed by one of these keys.
    """
    if not (folder / MANIFEST).is_file():
        Bundle.open(folder)  # says what is wrong, before anything is copied
    try:
        copy = Copy(folder.resolve())
    except OSError as error:
        raise InputError(f'bundle "{folder}"', "cannot be copied.", found=str(error)) from None
    try:
        bundle = Bundle.open(copy.folder, allow, trust=trust)
        copy.opened()
        return bundle, copy
    except BaseException as error:
        copy.remove()
        if not isinstance(error, InputError):
            raise
        where, problem, found, fix = (
            text.replace(str(copy.folder), str(folder)) for text in (error.where, error.problem, error.found, error.fix)
        )
        raise InputError(where, problem, found=found, fix=fix) from None


def _settle() -> None:
    """What is loaded stays: the collector need not walk it again and again while requests wait."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
