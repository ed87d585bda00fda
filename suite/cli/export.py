"""suite export: what a server or another library needs."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Allowing
from suite.errors import InputError, Missed


@dataclass(frozen=True, kw_only=True)
class Export(Allowing):
    """Writes what a server needs of a run into one folder, a bundle."""

    verb = "export"
    examples = (
        "suite export runs/reviews --to bundles/reviews",
        "suite export runs/reviews --to bundles/reviews --sign key.pem",
        "suite export runs/reviews --format huggingface --to published/reviews",
        "suite export runs/reviews --to bundles/reviews --engines onnxruntime openvino",
        "suite export runs/reviews --format onnx --to onnx/reviews --int8 --max-drop 0.005",
        "suite export --refresh bundles/reviews --to bundles/reviews-new",
        "suite export bundles/films --to bundles/films-new --catalogue new_items.csv",
    )

    run: str = word("RUN", example="runs/reviews", fix=examples[0], default="")
    """Run folder; with --catalogue, or a bundle."""
    to: str = flag("", value="FOLDER", example="bundles/reviews", otherwise="must be given")
    """Folder that is written."""
    platforms: tuple[Literal["cpu", "cuda", "tpu"], ...] = flag((), example="cpu cuda", otherwise="cpu cuda tpu")
    """Kinds of devices that the programs run on."""
    name: str = flag("", value="NAME", example="reviews", otherwise="the name of the folder")
    """What the server calls it."""
    licence: str = flag("", value="TEXT", example="Apache-2.0", otherwise="none is stated")
    """Licence that the model card states."""
    format: Literal["bundle", "huggingface", "onnx"] = flag("bundle", example="onnx")
    """bundle, weights as Transformers reads them, or models in ONNX."""
    engines: tuple[Literal["onnxruntime", "openvino"], ...] = flag((), example="onnxruntime", otherwise="XLA alone")
    """Engines of processors, besides XLA, that the bundle can be computed by."""
    int8: bool = flag(False, otherwise="they are float32")
    """Compute products of the models in ONNX with 8-bit numbers."""
    max_drop: float | None = flag(None, value="X", example="0.005", otherwise="any loss is accepted")
    """Loss of the metric that is allowed for --int8."""
    sign: str = flag("", value="KEY", example="key.pem", otherwise="the bundle is not signed")
    """File of the private key that the bundle is signed with; openssl genpkey -algorithm ed25519 -out KEY makes one."""
    explain: bool = flag(False, otherwise="the bundle answers alone")
    """Add a program that says what an answer is owed to, for suite explain and a button of the server's page."""
    catalogue: str = flag("", value="FILE", example="new_items.csv", otherwise="the one that the task states")
    """Records that requests are compared with in place of the task's: a table, or a folder of files."""
    refresh: str = flag("", value="BUNDLE", example="bundles/reviews", otherwise="a run is exported")
    """A bundle whose programs are written again by this version."""


def export(given: Export) -> None:
    from suite.bundles.bundle import Bundle
    from suite.bundles.manifest import SIGNATURE
    from suite.compression.verdict import sentence
    from suite.exporting import exporting, refreshing
    from suite.exporting.onnx import folder
    from suite.exporting.tracing import PLATFORMS

    if given.refresh:
        _nothing_fixed(given)
        was_signed = (Path(given.refresh) / SIGNATURE).exists()
        bundle = refreshing.refresh(
            given.refresh, given.to, platforms=given.platforms, allow=given.allowed, sign=given.sign
        )
        _print(bundle)
        if was_signed and not given.sign:
            print("the old signature does not fit any more, and was left out: --sign KEY", file=sys.stderr)
        return
    if not given.run:
        raise InputError("RUN", "is missing.", fix=Export.examples[0])
    if not given.to:
        raise InputError("flag --to", "is missing.", fix="--to bundles/mine")
    if given.catalogue:
        _with_catalogue(given)
        return
    exported = exporting.export(
        given.run,
        given.to,
        platforms=given.platforms or PLATFORMS,
        name=given.name,
        licence=given.licence,
        format=given.format,
        allow=given.allowed,
        sign=given.sign,
        engines=given.engines,
        int8=given.int8,
        max_drop=given.max_drop,
        explain=given.explain,
    )
    if isinstance(exported, Bundle):
        _print(exported)
    elif isinstance(exported, folder.Written):
        print("\n".join(exported.lines()))
        if (judged := exported.content.get("int8")) and not judged["met"]:
            raise Missed(sentence(judged))
    else:
        print(f"{exported.format}: {exported.tensors} tensors, {exported.values:,} values\n{exported.folder}")


def _with_catalogue(given: Export) -> None:
    from suite.bundles import manifest
    from suite.workflow.catalogue import replace_catalogue

    if given.format != "bundle":
        raise InputError("flag --catalogue", "is for bundles.", found=given.format, fix="--format bundle")
    for name, value in {"engines": given.engines, "int8": given.int8, "max-drop": given.max_drop}.items():
        if value:
            problem = "is for a bundle with the catalogue of its run: models in ONNX would hold that one."
            raise InputError(f"flag --{name}", problem, found="--catalogue", fix="the same command without it")
    stated = {"platforms": given.platforms, "name": given.name, "licence": given.licence, "explain": given.explain}
    options = {name: value for name, value in stated.items() if value}
    bundle, embedded = replace_catalogue(
        given.run, given.catalogue, given.to, allow=given.allowed, sign=given.sign, **options
    )
    _print(bundle)
    if (Path(given.run) / manifest.NAME).is_file() and manifest.read(Path(given.run)).engines:
        print("models in ONNX hold the old catalogue, and were left out", file=sys.stderr)
    print(f"catalogue of {len(embedded):,} records")
    for line in embedded.left_out.lines():
        print(f"  {line}")


def _nothing_fixed(given: Export) -> None:
    """Raises InputError: a flag says what a refreshed bundle keeps as it is."""
    fixed = {
        "--catalogue": given.catalogue,
        "--name": given.name,
        "--licence": given.licence,
        "--format": given.format.replace("bundle", ""),
        "--engines": " ".join(given.engines),
        "--int8": "true" if given.int8 else "",
        "--explain": "true" if given.explain else "",
    }
    fixed = {name: value for name, value in {**fixed, "RUN": given.run}.items() if value}
    for name, value in fixed.items():
        raise InputError(
            name.replace("--", "flag --"),
            "says what a refreshed bundle keeps as it is.",
            found=value,
            fix=f"suite export --refresh {shlex.quote(given.refresh)}",
        )


def _print(bundle: Any) -> None:
    from suite.compression.verdict import sentence

    about = bundle.manifest
    size = sum(file["bytes"] for file in about.files.values())
    print(f"{about.name}, version {about.version}: {len(about.files)} files, {size:,} bytes")
    rows = "" if bundle.lengths == (0,) else f"; rows padded to {', '.join(map(str, bundle.lengths))}"
    print(f"programs for {', '.join(about.platforms)}{rows}")
    if about.engines:
        print(f"models in ONNX for {', '.join(about.engines['checked'])}: {', '.join(about.engines['models'])}")
        for name, why in about.engines.get("left_out", {}).items():
            print(f"no model in ONNX: {name}, since it {why}")
        if judged := about.engines.get("int8"):
            print(f"int8, {judged['method']}: {sentence(judged)}")
    if len(bundle.programs) > 1:
        print(f"answers by {', '.join(bundle.programs)}")
    if {"checked", "from"} <= about.made.keys():
        print(f"answers {about.made['checked']} as {about.made['from']} does")
    if bundle.signed_by:
        print(f"signed with the key {bundle.signed_by}")
    print(bundle.folder)


VERB = Verb(Export, export)
