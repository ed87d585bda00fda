"""``suite export --format onnx``: a folder of models in ONNX, with what is needed to ask them."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.bundles.codecs import rebased
from suite.compression import verdict
from suite.experiment import serialization
from suite.experiment.local_paths import without_folders
from suite.exporting.asked import held_back
from suite.exporting.onnx.graph import IR, OPSET
from suite.exporting.onnx.models import ANY, TOLERANCE, Models, all_models
from suite.exporting.onnx.quantizing import judged, quantized
from suite.runs import results
from suite.runs.run import Run
from suite.runtime import files
from suite.training import preprocessors

NAME = "onnx.json"
"""What the models are: files, names and shapes, how they were checked."""


@dataclass(frozen=True)
class Written:
    """A folder that was written.

    Attributes:
        folder: its path.
        content: of its ``onnx.json``.
    """

    folder: Path
    content: dict[str, Any]

    def lines(self) -> list[str]:
        """What was written, for a person."""
        content = self.content
        programs = content["programs"].items()
        said = [
            f"{', '.join(about['files'].values())}: {name}, {about['distance']:.1g} from the run at most"
            for name, about in programs
        ]
        said += [f"left out: {name}, since it {why}" for name, why in content["left_out"].items()]
        said.append(f"opset {content['opset']}; {content['checked']}")
        if judgement := content.get("int8"):
            size = judgement["size"]
            said.append(
                f"int8, {judgement['method']}: {verdict.sentence(judgement)}; {100 * size['ratio']:.0f} % of the bytes"
            )
        return [*said, str(self.folder)]


def file_of(program: str, length: int) -> str:
    """The file of a model."""
    return f"{program}.onnx" if length == ANY else f"{program}-{length}.onnx"


def export(
    trained_run: Run, to: str | Path, name: str, *, int8: bool = False, max_drop: float | None = None
) -> Written:
    """The run's programs as models in ONNX, written only if they say what the run says in float32.

    Args:
        trained_run: the run.
        to: a new folder.
        name: of the model.
        int8: with products of 8-bit numbers, see `suite.exporting.onnx.quantizing`.
        max_drop: loss of the metric that the verdict on them allows; None: any.

    Raises:
        InputError: the folder is there, a package is missing, or the program that answers by default cannot be written.
        RunError: a model does not say what the run says; nothing is left of it.
    """
    with files.new_folder(Path(to)) as folder:
        split, asked = held_back(trained_run)
        made, left_out = all_models(trained_run, asked)
        judgement: dict[str, Any] = {}
        if int8:
            narrow, methods = {}, set()
            for each, models in made.items():
                narrow[each], method = quantized(trained_run, models)
                methods.add(method)
            judgement = judged(trained_run, made, narrow, ", ".join(sorted(methods)), max_drop)
            made = narrow
        for each, models in made.items():
            for length, model in models.by_length.items():
                (folder / file_of(each, length)).write_bytes(model)
        _copy_assets(trained_run, folder)
        count = len(next(iter(asked.values())))
        content = {
            "format": 1,
            "name": name,
            "recipe": trained_run.experiment.name,
            "opset": OPSET,
            "ir_version": IR,
            "programs": {each: _about(each, models) for each, models in made.items()},
            "left_out": left_out,
            "checked": f"{count} records of the {split} split, in float32, to {TOLERANCE:g} relative to outputs above 1"
            + (", before they were rounded" if int8 else ""),
            **({"int8": judgement} if judgement else {}),
            "versions": results.versions(),
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        files.write_text(folder / NAME, text)
    return Written(Path(to), json.loads(text))


def _about(program: str, models: Models) -> dict[str, Any]:
    asked: Mapping[str, Any] = without_folders(
        serialization.to_json(rebased(models.codec, lambda file: f"assets/{Path(file).name}"))
    )
    return {
        "files": {("any" if length == ANY else str(length)): file_of(program, length) for length in models.by_length},
        "lengths": list(models.lengths),
        **dataclasses.asdict(models.signature),
        "distance": models.distance,
        "codec": asked,
    }


def _copy_assets(trained_run: Run, folder: Path) -> None:
    """What the codec has learnt: vocabularies, names of classes."""
    for asset in preprocessors.preprocessors_of(trained_run.experiment.task).values():
        if asset.file:
            (folder / "assets").mkdir(exist_ok=True)
            shutil.copyfile(asset.file, folder / "assets" / Path(asset.file).name)
