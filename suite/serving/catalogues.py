"""PUT of a catalogue: its records are embedded by a process beside the server, and a new version takes the place of the
one that answers, which goes on until then."""

import asyncio
import dataclasses
import functools
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import InputError
from suite.serving.errors import Refused, encoded, failed
from suite.serving.model import Model, told_to_clients, without_paths
from suite.serving.models import Models
from suite.serving.predict_endpoint import refuse, reply
from suite.serving.request_body import Body, Gone, Held, Receive, Scope, Send
from suite.serving.settings import Settings
from suite.serving.snapshots import identity
from suite.serving.threads import in_thread
from suite.serving.trial import Passing, Trial
from suite.serving.uploads import TABLES, not_read

log = logging.getLogger("suite.serving")


@dataclass(eq=False)
class Catalogues:
    """Answers requests that replace a catalogue.

    Attributes:
        models: what is served.
        settings: the limits.
        held: bytes of requests.
    """

    models: Models
    settings: Settings
    held: Held

    async def __call__(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for the model ``name``: once the new version answers, or is refused."""
        body = Body(scope, receive, self.settings, self.held)
        try:
            model = self._model(name)
            media = body.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
            if media not in TABLES:
                raise not_read(media)
            data = await body.read()
            await self._check_idle(model)
            # The new version comes whether or not whoever asked for it waits.
            model.taking = taking = asyncio.create_task(self._replaced(model, data, media))
            await reply(send, 200, encoded(await self._outcome(model, taking)))
        except Refused as error:
            await refuse(send, error, body)
        except Gone:
            pass
        except Exception:
            log.exception("a request for the catalogue of %s failed", name)
            await refuse(send, failed(), body)
        finally:
            body.release()

    def _model(self, name: str) -> Model:
        """The model whose catalogue can be replaced.

        Raises:
            Refused: there is none.
        """
        version = self.models.version(name)
        if version.bundle.catalogue is None:
            message = f"{name} has no catalogue that can be replaced."
            raise Refused(409, "no_catalogue", message, fix="a bundle that suite export says one of")
        if self.settings.trust:
            message = "bundles must be signed here, which a server does not."
            fix = "suite export BUNDLE --catalogue FILE --to FOLDER --sign KEY"
            raise Refused(409, "signed", message, fix=fix)
        return self.models.by_name[name]

    async def _check_idle(self, model: Model) -> None:
        """Raises Refused: 409, the folder of the model holds another version than the one that answers."""
        now = await in_thread(functools.partial(identity, model.folder))
        if model.is_being_taken or model.error is not None or now != model.tried:
            message = f"another version of {model.name} is being taken, or was refused."
            raise Refused(409, "busy", message, fix="send it again after a moment", retry=5)

    async def _replaced(self, model: Model, data: bytes, media: str) -> dict[str, Any]:
        told: dict[str, Any] = {}

        async def write(trial: Trial, to: Path) -> None:
            body = to.with_name("body")
            await in_thread(functools.partial(body.write_bytes, data))
            limits = {**dataclasses.asdict(self.settings), "max_records": sys.maxsize}
            given = {"body": str(body), "media": media, "limits": limits, "to": str(to)}
            told.update(await dataclasses.replace(trial, catalogue=given).run(self.models.nursery))

        version = await self.models.replace(model, write)
        left_out = [str(line)[:1000] for line in told["left_out"][:100]]
        about = {"model": model.name, "version": version.bundle.version, "catalogue": version.bundle.catalogue}
        return {**about, "left_out": left_out}

    async def _outcome(self, model: Model, taking: "asyncio.Task[dict[str, Any]]") -> dict[str, Any]:
        """What became of it.

        Raises:
            Refused: the version before goes on.
        """
        await asyncio.wait([taking])
        try:
            return taking.result()
        except Refused:
            raise
        except asyncio.CancelledError:
            message = f"another version of {model.name} came meanwhile, or the server is stopping."
            raise Refused(503, "superseded", message, retry=5) from None
        except (Passing, OSError, MemoryError) as error:
            log.error("the catalogue of %s is not replaced: %s", model.name, error)
            raise Refused(503, "not_replaced", told_to_clients(error), retry=10) from None
        except InputError as error:
            log.error("the catalogue of %s is not replaced: %s", model.name, error)
            raise Refused(400, "invalid_input", told_to_clients(error), fix=without_paths(error.fix)) from None
        except Exception:
            log.exception("the catalogue of %s is not replaced", model.name)
            raise failed() from None
