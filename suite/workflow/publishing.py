"""suite publish: a run or a bundle on the Hugging Face hub, with a model card in the hub's format.

Nothing is sent but by `publish`. Who sends is known to huggingface_hub alone, by its own login.
"""

import dataclasses
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.bundles import signing
from suite.bundles.bundle import Bundle
from suite.bundles.manifest import CARD
from suite.data.preprocessing.labels import Labels
from suite.data.preprocessing.target import Target
from suite.distribution import NAME as DISTRIBUTION
from suite.errors import InputError, RunError, first_line
from suite.experiment import serialization
from suite.experiment.sections import Checkpoint, Experiment, Finetune, replace
from suite.runs import run, verbs
from suite.runs.run import Run
from suite.runtime.files import is_bundle, is_run
from suite.training.preprocessors import preprocessors_of, unbind
from suite.weights.hub import BUNDLE, RUN

_PIPELINES = {
    "text.classification": "text-classification",
    "text.language_modelling": "text-generation",
    "text.translation": "translation",
    "vision.classification": "image-classification",
    "speech.classification": "audio-classification",
    "speech.recognition": "automatic-speech-recognition",
    "recommendation.click": "tabular-classification",
}
"""Module of a task under ``suite.tasks`` -> what the hub calls such a task."""


@dataclass(frozen=True)
class Sent:
    """What was sent.

    Attributes:
        address: where it can be seen.
        files: names of all files, in the repository.
    """

    address: str
    files: tuple[str, ...]


def publish(
    source: str | Path,
    name: str,
    *,
    private: bool = False,
    licence: str = "",
    allow: tuple[str, ...] = (),
    sign: str | Path = "",
) -> Sent:
    """Put a run or a bundle on the hub, under ``owner/name``, which is made where it is not there.

    Args:
        source: a run folder, whose weights are written as the original library publishes them, or a bundle.
        name: ``owner/name``.
        private: whether a new repository is to be seen by its owner alone.
        licence: the hub's name of the licence, such as ``apache-2.0``; empty: the bundle's own, or none.
        allow: packages whose classes the run or bundle may name.
        sign: the file of the private key that a bundle is signed with; empty: it is sent as it is, signed or not.

    Raises:
        InputError: the name is none, there is no run or bundle, the original library has no such model, or the hub
            does not know who sends.
        RunError: the hub did not take it.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise InputError("OWNER/NAME", "is no name on the Hugging Face hub.", found=name, fix="my-name/reviews")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "repository"
        compose(source, folder, name, licence, allow, sign)
        files = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
        return Sent(_sent(folder, name, private), files)


def compose(
    source: str | Path, folder: Path, name: str, licence: str = "", allow: tuple[str, ...] = (), sign: str | Path = ""
) -> None:
    """Write the files of the repository into ``folder``, which is new; nothing is sent."""
    signer = signing.read_signer(sign) if str(sign) else None
    if is_bundle(source):
        bundle = Bundle.open(source, allow)
        shutil.copytree(source, folder / BUNDLE)
        if signer is not None:
            signing.sign(folder / BUNDLE, signer)
        signed_by = signer.id if signer is not None else bundle.signed_by
        experiment = run.read_experiment(folder / BUNDLE / "experiment.json", allow)
        metrics = {metric: float(about["value"]) for metric, about in bundle.metrics.items()}
        licence = licence or str(bundle.manifest.made.get("licence", ""))
        text = (folder / BUNDLE / CARD).read_text(encoding="utf-8")
        body = text.partition("\n")[2] + _use(name, f"suite serve {name}")
        if signed_by:
            body += f"\nSigned with the key `{signed_by}`: `suite serve {name} --trust KEYS`.\n"
    elif signer is not None:
        problem = "is for bundles: the weights of a run are not signed."
        fix = (
            f"suite export {shlex.quote(str(source))} --to bundles/mine && "
            f"suite publish bundles/mine {shlex.quote(name)} --sign KEY"
        )
        raise InputError("flag --sign", problem, found=str(source), fix=fix)
    elif is_run(source):
        opened = run.open(source, allow)
        _run(opened, source, folder, allow)
        experiment, metrics = opened.experiment, opened.metrics
        body = _about(opened) + _use(name, f"suite train RECIPE --data PATH --checkpoint.init_from {name}")
    else:
        raise InputError(f'"{source}"', "is no run and no bundle.", fix="the folder that suite train printed last")
    head = _metadata(experiment, name, metrics, licence)
    (folder / "README.md").write_text(f"---\n{head}\n---\n\n# {name.partition('/')[2]}\n{body}", encoding="utf-8")


def _run(opened: Run, source: str | Path, folder: Path, allow: tuple[str, ...]) -> None:
    """The weights as the original library reads them; beside them the run without them and without local paths."""
    try:
        verbs.convert(source, folder, allow=allow)
    except InputError as error:
        raise InputError(
            error.where,
            f"{error.problem.rstrip('.')}, so the run's weights cannot be published.",
            found=error.found,
            fix=f"suite export {shlex.quote(str(source))} --to bundles/mine && suite publish bundles/mine OWNER/NAME",
        ) from None
    if opened.experiment.model.parts:
        raise InputError(f'run "{source}"', "has a model of several parts.", fix="publish its bundle")
    experiment = dataclasses.replace(unbind(opened.experiment), checkpoint=Checkpoint(), finetune=Finetune())
    if path := getattr(experiment.task.data, "path", ""):
        experiment = replace(experiment, {"task.data.path": Path(path).name})
    shutil.copytree(Path(source) / "assets", folder / RUN / "assets")
    for name in ("result.json", "versions.json"):
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, folder / RUN / name)
    serialization.dump(experiment, folder / RUN / "experiment.json", local=False)


def _metadata(experiment: Experiment, name: str, metrics: Mapping[str, float], licence: str) -> str:
    """The head of the card in YAML, metrics among it."""
    from huggingface_hub import EvalResult, ModelCardData

    task = type(experiment.task).__module__.removeprefix("suite.tasks.")
    pipeline = _PIPELINES.get(task)
    data = experiment.task.data
    stated = Path(getattr(data, "path", "") or getattr(data, "name", "") or type(data).__name__).name
    results = [
        EvalResult(
            task_type=pipeline or "other",
            dataset_type=type(data).__name__.lower(),
            dataset_name=stated,
            dataset_split=full.partition("/")[0],
            metric_type=full.partition("/")[2],
            metric_value=round(float(value), 6),
        )
        for full, value in metrics.items()
        if full.partition("/")[0] in ("validation", "test")
    ]
    given: dict[str, Any] = {"model_name": name.partition("/")[2], "eval_results": results} if results else {}
    if licence:
        known = re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence) is not None
        given |= {"license": licence} if known else {"license": "other", "license_name": licence}
    tags = ["jax", "flax", experiment.name.partition(".")[0]]
    return ModelCardData(library_name=DISTRIBUTION, pipeline_tag=pipeline, tags=tags, **given).to_yaml().strip()


def _about(opened: Run) -> str:
    """Model, classes and metrics."""
    experiment = opened.experiment
    family = type(experiment.model).__module__
    lines = ["", f"A model of `{family}` with {opened.parameters:,} parameters, recipe `{experiment.name}`.", ""]
    for labels in preprocessors_of(experiment.task).values():
        if isinstance(labels, Labels | Target) and labels.names:
            more = " ..." if len(labels.names) > 20 else ""
            lines += [f"Classes, {len(labels.names)}: {', '.join(labels.names[:20])}{more}.", ""]
    if opened.metrics:
        rows = [f"| {metric} | {value:.4g} |" for metric, value in opened.metrics.items()]
        lines += ["## Metrics", "", "| metric | value |", "|---|---|", *rows, ""]
        lines += [f"Protocol: {experiment.task.protocol}.", ""] if experiment.task.protocol else []
    return "\n".join(lines)


def _use(name: str, command: str) -> str:
    return f'\n## Use\n\n```python\nimport suite\n\nsuite.open("{name}").predict([...])\n```\n\n```\n{command}\n```\n'


def _sent(folder: Path, name: str, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(name, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Published by suite publish")
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        first = first_line(error)
        status = getattr(getattr(error, "response", None), "status_code", 0)
        if status in (401, 403) or isinstance(error, LocalTokenNotFoundError):
            raise InputError(
                f'"{name}" on the Hugging Face hub', "may not be written by you.", found=first, fix="hf auth login"
            ) from None
        raise RunError(f"the Hugging Face hub did not take {name}: {first}") from None
    return str(address)
