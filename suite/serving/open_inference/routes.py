"""The addresses of the Open Inference Protocol that are no inference: server, health, models."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from suite import distribution
from suite.bundles.manifest import PREDICT
from suite.serving.errors import Refused, encoded
from suite.serving.models import Models
from suite.serving.open_inference.protocol import OPEN_INFERENCE
from suite.serving.open_inference.signature import metadata
from suite.serving.protocol import JSON
from suite.serving.versions import Version


def add_routes(app: FastAPI, models: Models, why_not_ready: Callable[[], str]) -> None:
    """The addresses of /v2 that are no inference: the server, its health, and what is known of each model.

    Args:
        app: that they are added to.
        models: what is served.
        why_not_ready: says why requests had better go elsewhere; empty where they need not.
    """

    def answered(describe: Callable[[], tuple[int, dict[str, Any]]]) -> Any:
        try:
            status, content = describe()
        except Refused as error:
            headers = {name.decode(): value.decode() for name, value in error.headers}
            return Response(OPEN_INFERENCE.refusal(error), error.status, headers, JSON.decode())
        return Response(encoded(content), status, media_type=JSON.decode())

    @app.get("/v2")
    async def server() -> Any:
        return {"name": distribution.NAME, "version": distribution.version(), "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live")
    async def live() -> Any:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> Any:
        is_ready = not why_not_ready()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{number}")
    async def described(name: str, number: str = "") -> Any:
        return answered(lambda: (200, metadata(*_asked(models, name, number))))

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{number}/ready")
    async def model_ready(name: str, number: str = "") -> Any:
        def describe() -> tuple[int, dict[str, Any]]:
            try:
                _asked(models, name, number)
            except Refused as error:
                if error.status != 503:
                    raise
                return 503, {"name": name, "ready": False}
            return 200, {"name": name, "ready": True}

        return answered(describe)


def _asked(models: Models, name: str, number: str) -> tuple[Version, str]:
    """The version of a model and the program that a name under /v2 and a number stand for."""
    model, _, program = name.partition(":")
    version = models.version(model)
    version.check_number(number)
    version.endpoint(program or PREDICT)
    return version, program or PREDICT
