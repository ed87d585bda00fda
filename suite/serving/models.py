"""Models by name, each in its current version: tried, opened, warmed, put in place of the one before, and let go."""

import asyncio
import contextlib
import functools
import gc
import logging
import math
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import suite.bundles.bundle as bundles
from suite.bundles import engines, manifest
from suite.bundles.bundle import Bundle
from suite.bundles.manifest import CARD
from suite.errors import InputError, RunError
from suite.runtime.compilation import disable_cache, enable_cache
from suite.runtime.files import put
from suite.serving.endpoint import endpoint_of
from suite.serving.errors import Refused
from suite.serving.model import Model, found, same_model
from suite.serving.monitoring import Monitor
from suite.serving.nursery import Nursery
from suite.serving.settings import Settings
from suite.serving.snapshots import Compiled, Copy, Identity, identity, sweep
from suite.serving.threads import in_thread
from suite.serving.trial import Passing, Trial
from suite.serving.tried import Record, Took, record_of
from suite.serving.versions import Version
from suite.serving.warming import Warming

TRIALS = max(2, min(4, (os.cpu_count() or 1) // 2))
"""Versions that are tried at a time: at least two, so that one without end keeps none waiting."""
log = logging.getLogger("suite.serving")


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
    nursery: Nursery = field(default_factory=Nursery)
    """Starts trials."""
    _compiled: Compiled | None = None
    """What trials hand over; None before the first, or where there is no room for it."""
    _retired: list[Version] = field(default_factory=list)
    """Versions that still answer what they have begun, and perhaps some that no longer do."""
    _copies: set[Copy] = field(default_factory=set)
    """Those of versions that don't answer yet."""
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _trials: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TRIALS))

    def open(self) -> None:
        """See what is given, before anything is listened for.

        Raises:
            InputError: one is no bundle, or two have one name.
        """
        sweep()
        self.by_name = found(self.given)

    async def warm(self) -> None:
        """Take the first version of each model; each answers as soon as it is warm. One that cannot be served keeps no
        other from it.

        Raises:
            InputError, RunError: none can be served; says why.
        """
        for model in self.by_name.values():
            self._begin(model)
        while tasks := self._tasks():  # another version may have come meanwhile
            await asyncio.wait(tasks)
        errors = [model.error for model in self.by_name.values() if model.error]
        if errors and not any(model.current for model in self.by_name.values()):
            raise errors[0] if isinstance(errors[0], InputError) else RunError(str(errors[0])) from errors[0]

    @property
    def ready(self) -> bool:
        """Whether every model answers that can be served, and one at least."""
        models = self.by_name.values()
        answering = [model for model in models if model.current]
        return bool(answering) and all(model.current or model.is_refused for model in models)

    @property
    def progress(self) -> str:
        """How far the models are, such as "reviews: compiling 7 of 30; photos: waiting"; empty where all answer."""
        waiting = [model for model in self.by_name.values() if model.current is None]
        return "; ".join(str(model.warming or f"{model.name}: {_state(model)}") for model in waiting)

    def version(self, name: str) -> Version:
        """The current version of a model.

        Raises:
            Refused: 404, there is no such model; 503, it is not warm yet, cannot be served, or computes without end.
        """
        model = self.by_name.get(name)
        if model is None:
            raise Refused(404, "unknown_model", f'there is no model "{name:.100}".', fix=", ".join(self.by_name)[:300])
        if model.current is None:
            why = f"{model.warming}." if model.warming else f"{name} is being compiled."
            if model.is_refused:
                why = f"{name} cannot be served: {model.problem}"
            raise Refused(503, "not_ready", why, fix="wait until /readyz says so", retry=1)
        if model.current.stuck:
            message = f"{name} takes no requests: {model.current.stuck}."
            raise Refused(503, "not_ready", message, fix="another version, or another server", retry=10)
        return model.current

    async def look(self, at_once: bool = False) -> None:
        """See whether a folder holds another version, and begin to take it; nothing waits for its end.

        A folder that is still being written is left alone until two looks in turn found it the same.

        Args:
            at_once: don't wait for the second look; versions that could not be served are tried again.
        """
        async with self._looking:
            for model in list(self.by_name.values()):
                now = await in_thread(functools.partial(identity, model.folder))
                settled, model.seen = at_once or now == model.seen, now
                another = now != model.tried and settled
                if now and (another or (at_once and model.is_refused)):
                    await self._begin_anew(model, now)

    async def tend(self) -> None:
        """Try again what could not be served a while ago, and see whether all models answer what they were asked."""
        for model in self.by_name.values():
            if time.monotonic() >= model.again and not model.is_being_taken:
                await self._begin_anew(model, model.tried)
            if model.current is not None:
                before, now = model.current.stuck, model.current.look(self.settings.deadline_s)
                if now and not before:
                    log.error("%s takes no more requests: %s; a new version or a new start helps", model.name, now)
                elif before and not now:
                    log.info("%s answers again", model.name)

    async def _begin_anew(self, model: Model, now: Identity) -> None:
        """Take what is in the folder now, instead of what was there before."""
        if model.taking is not None and model.is_being_taken:
            model.taking.cancel()
            await asyncio.wait([model.taking])
        model.tried = now
        self._begin(model)

    def _begin(self, model: Model) -> asyncio.Task[Any]:
        model.again = math.inf
        model.taking = asyncio.create_task(self._take(model))
        return model.taking

    async def _take(self, model: Model) -> None:
        """Try and warm the new version beside the old one, and let it answer; a bad one changes nothing."""
        begun, copy, first = time.perf_counter(), None, model.current is None
        try:
            async with self._trials:
                copy = await self._copied(model.folder)
                bundle, keep = await self._adopted(model, copy)
                await self._serve(model, bundle, copy, keep)
        except Exception as error:  # whatever a bad version does, the old one stays
            self._refuse(model, error, time.perf_counter() - begun)
            self._drop(copy)
            return
        except asyncio.CancelledError:  # the server is stopping, or another version has come
            self._drop(copy)
            raise
        model.error, model.failures = None, 0
        how = "is ready" if first else "answers from now on"
        log.info("%s %s %s after %.1f s", model.name, bundle.version, how, time.perf_counter() - begun)
        if not first:
            self.monitor.swapped(model.name, "done")
        _settle()

    async def _adopted(self, model: Model, copy: Copy) -> tuple[Bundle, Callable[[], None] | None]:
        """A copy, opened, once another process has tried it, and what ``_tried`` says of it."""
        keep = await self._tried(model, copy)
        return await in_thread(functools.partial(self._opened, model, copy)), keep

    async def replace(self, model: Model, write: Callable[[Trial, Path], Awaitable[None]]) -> Version:
        """The version of a model that another one of the same bundle has become: tried as any, put into the model's
        folder, and served.

        Args:
            model: that has a version.
            write: writes the other bundle into a new folder, by a process that may do what a trial may.

        Raises:
            Exception: it cannot be written, tried or put there; the version before goes on.
        """
        folder, begun = model.folder.resolve(), time.perf_counter()
        place, copy = folder.with_name(f"partial-{folder.name}"), None
        try:
            async with self._trials:
                await in_thread(functools.partial(_emptied, place))
                await write(self._trial(model, folder, place / "compiled"), place / "bundle")
                copy = await self._copied(place / "bundle")
                bundle, keep = await self._adopted(model, copy)
                await in_thread(functools.partial(put, place / "bundle", folder))
                model.tried = model.seen = await in_thread(functools.partial(identity, model.folder))
                await self._serve(model, bundle, copy, keep)
        except BaseException as error:
            self._drop(copy)
            if isinstance(error, Exception):
                self.monitor.swapped(model.name, "refused")
            raise
        finally:
            shutil.rmtree(place, ignore_errors=True)
        log.info("%s %s answers from now on after %.1f s", model.name, bundle.version, time.perf_counter() - begun)
        self.monitor.swapped(model.name, "done")
        _settle()
        assert model.current is not None
        return model.current

    def _refuse(self, model: Model, error: Exception, spent: float) -> None:
        passing = isinstance(error, Passing | OSError | MemoryError)
        model.error, again = error, ""
        if passing:
            pause = model.pause(spent)
            model.again, again = time.monotonic() + pause, f"; it is tried again in {pause:.0f} s, and on SIGHUP"
        log.error("%s: the new version in %s is refused: %s%s", model.name, model.folder, error, again)
        self.monitor.swapped(model.name, "postponed" if passing else "refused")

    async def _copied(self, folder: Path) -> Copy:
        """The server's own copy of a folder."""

        def copied() -> Copy:
            try:
                copy = Copy(folder.resolve())
            except OSError as error:
                raise Passing(f'bundle "{folder}"', "cannot be copied.", found=error.strerror or str(error)) from None
            self._copies.add(copy)
            return copy

        copying = asyncio.ensure_future(in_thread(copied))
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            copying.add_done_callback(lambda done: self._drop(None if done.exception() else done.result()))
            raise

    def _drop(self, copy: Copy | None) -> None:
        if copy is not None:
            copy.remove()
            self._copies.discard(copy)

    async def _tried(self, model: Model, copy: Copy) -> Callable[[], None] | None:
        """Another process opens, compiles and runs a version, unless that was done before. What it returns makes that
        known to later servers, and is to be called once the version is warm; None: nothing is to be made known."""
        settings, current = self.settings, model.current
        with _called(copy, model.folder):
            about = await in_thread(functools.partial(manifest.read, copy.folder))
            if not model.stated and current and not same_model(current.bundle.manifest, about):
                raise InputError(
                    f"bundle {model.folder}",
                    "is that of another model.",
                    found=about.name,
                    fix=f"restart with {model.name}={model.folder}",
                )
            trial, record = self._trial(model, copy.folder, copy.root / "compiled"), None
            if trial.compile and not settings.allow:  # packages of others change without notice
                record = await in_thread(functools.partial(_record, copy.folder, settings))
            if record is not None and await in_thread(functools.partial(record.stands, bundles.device)):
                log.info("%s: this version was tried before on this machine", model.name)
                return None
            count = sum(len(program.lengths) for program in about.programs.values()) * len(settings.sizes)
            model.warming = warming = Warming(model.name, count)
            try:
                told = await trial.run(self.nursery, warming.next)
            finally:
                model.warming = None
            if record is None:
                return None
            return functools.partial(record.keep, Took(int(told.get("bytes", 0)), str(told.get("device", ""))))

    def _trial(self, model: Model, folder: Path, cache: Path) -> Trial:
        """What a process for the bundle in ``folder`` may do, and where it may keep what it compiles."""
        settings = self.settings
        if self._compiled is None:
            with contextlib.suppress(OSError):
                self._compiled = Compiled()
        return Trial(
            f'bundle "{folder}"',
            folder,
            self._compiled.root if self._compiled else cache,
            settings.allow,
            settings.trust,
            settings.sizes,
            settings.warm_s,
            settings.warm_bytes,
            settings.engine,
            compile=model.current is None or bundles.platform() != "tpu",  # which one process has at a time
        )

    def _opened(self, model: Model, copy: Copy) -> Bundle:
        """The bundle of a copy, which is no longer needed for its weights."""
        with _called(copy, model.folder):
            if self._compiled is not None:
                enable_cache(self._compiled.root)
            bundle = Bundle.open(copy.folder, self.settings.allow, cache=False, trust=self.settings.trust)
            copy.opened()
            return bundle

    async def _serve(self, model: Model, bundle: Bundle, copy: Copy, keep: Callable[[], None] | None = None) -> None:
        """Warm a bundle and let it answer; the version before answers what it has begun. ``keep`` is called between."""
        settings, endpoints = self.settings, {}
        try:
            async with asyncio.timeout(settings.warm_s):
                note = functools.partial(log.info, "%s: %s", model.name)
                warm = functools.partial(engines.warmed, bundle, settings.engine, settings.sizes, note=note)
                bundle, measured = await in_thread(warm)
                for name, program in bundle.programs.items():
                    observe = self.monitor.batches(model.name, name)
                    endpoints[name] = endpoint_of(program, settings, measured[name], observe)
        except TimeoutError:
            raise Passing(f'bundle "{model.folder}"', f"is not warm after {settings.warm_s:g} s.") from None
        if self._compiled is not None:
            await in_thread(self._compiled.keep)
        if keep is not None:
            await in_thread(keep)
        card = bundle.folder / CARD
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        if bundle.signed_by:
            text += f"\n## Signature\n\nThis bundle was signed with the key `{bundle.signed_by}`.\n"
        before, model.current = model.current, Version(model.name, bundle, endpoints, copy, text)
        self._copies.discard(copy)
        if before is not None:
            before.retire()
            self._retired = [version for version in (*self._retired, before) if version.users]

    def close(self, why: str) -> None:
        """Refuse what waits, at versions that are no longer served too."""
        for version in (*self._retired, *(model.current for model in self.by_name.values())):
            if version is not None:
                version.close(why)

    async def stop(self) -> None:
        """Take no more versions, and end the processes that try them."""
        for task in self._tasks():
            task.cancel()
            await asyncio.wait([task])

    def _tasks(self) -> list[asyncio.Task[Any]]:
        """What is at work on new versions."""
        return [model.taking for model in self.by_name.values() if model.taking is not None and model.is_being_taken]

    def let_go(self) -> None:
        """Leave nothing behind on disk, and no process."""
        self.nursery.close()
        for copy in (*self._copies, *(version.copy for version in self._retired)):
            copy.remove()
        for model in self.by_name.values():
            if model.current is not None:
                model.current.retire()
        if self._compiled is not None:
            self._compiled.remove()
            if enable_cache() is None:
                disable_cache()


def _emptied(folder: Path) -> None:
    """A new, empty folder in the place of what a server that was killed has left.

    Raises:
        Passing: it cannot be made.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
    except OSError as error:
        problem = "cannot be replaced: the folder that it lies in cannot be written."
        raise Passing(f'bundle "{folder}"', problem, found=error.strerror or str(error)) from None


def _record(folder: Path, settings: Settings) -> Record | None:
    return record_of(manifest.read_bytes(folder), settings.sizes, settings.engine)


def _state(model: Model) -> str:
    return f"cannot be served: {model.problem}" if model.is_refused else "waiting"


@contextlib.contextmanager
def _called(copy: Copy, folder: Path) -> Iterator[None]:
    """Errors call a bundle by the folder that the user knows, and not by the server's copy."""
    try:
        yield
    except InputError as error:
        given = (error.where, error.problem, error.found, error.fix)
        where, problem, found, fix = (text.replace(str(copy.folder), str(folder)) for text in given)
        raise type(error)(where, problem, found=found, fix=fix) from None


def _settle() -> None:
    """What is loaded stays: the collector need not walk it again and again while requests wait."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
