"""Explanations of records that ``--input`` names, by runs and bundles, and the files that they are written to."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from suite.bundles.bundle import Bundle
from suite.codecs.heatmaps import over_time, overlay
from suite.contracts.batch import Columns
from suite.contracts.codec import Codec
from suite.contracts.division import KEPT
from suite.contracts.signature import file_to_json
from suite.errors import InputError, unused
from suite.explaining import checking
from suite.explaining.explainer import Case, Explainer
from suite.explaining.explanation import Explanation, complete, listed, scores
from suite.explaining.exported import EXPLAIN
from suite.explaining.methods import method as chosen_method
from suite.reporting import explanations as drawing
from suite.reporting.blocks import Page, Section
from suite.reporting.page import write
from suite.runs.run import Run
from suite.runtime import files
from suite.workflow import folders

LINES, PAGE = "explanations.jsonl", "explanations.html"
"""Files of the folder that explanations are written to."""
INTEGRATED = "integrated-gradients"


@dataclass(frozen=True)
class Explained:
    """One explained record.

    Attributes:
        name: what it is called.
        content: as JSON; files as `suite.contracts.signature.File`.
        lines: for a terminal.
        explanation: of a run.
        drawn: a PNG of the map, where there is one.
    """

    name: str
    content: Mapping[str, Any]
    lines: Sequence[str]
    explanation: Explanation | None = None
    drawn: bytes | None = field(default=None, repr=False)


def explain(
    source: Run | Bundle | str | Path, value: str, method: str = INTEGRATED, chosen: str = "", records: int = 0
) -> list[Explained]:
    """Explain the answers to some records.

    Args:
        source: a run, or a bundle that was exported with explanations; or the folder of either.
        value: a text, a file, a folder or ``-``, as ``suite predict --input`` takes it.
        method: of `suite.explaining.methods`; a bundle has integrated gradients.
        chosen: name of the class that is explained; empty: the answered one.
        records: how many are explained, the first ones; 0: all.

    Raises:
        InputError: a record cannot be read, there is no such method or class, the bundle explains nothing, or the
            task does not say what of its answer is to be explained.
    """
    opened = folders.open(source) if isinstance(source, str | Path) else source
    if isinstance(opened, Bundle):
        return _of_bundle(opened, value, method, chosen, records)
    explaining = chosen_method(method)
    columns, names = _asked(opened.codec, value, records)
    explainer, known = Explainer(opened), checking.read(opened.folder)
    verdict = known.verdicts.get(method) if known else None
    doubts = [f"on this run the method fails a test: {fault}" for fault in (verdict.faults if verdict else [])]
    explained = []
    for place, name in enumerate(names):
        case = explainer.case({key: values[place : place + 1] for key, values in columns.items()}, chosen)
        one = explaining(explainer, case)
        lines = [name, *one.lines(), *(f"  {doubt}" for doubt in doubts)]
        content = {"input": name, **one.to_json(), **({"doubts": doubts} if doubts else {})}
        explained.append(Explained(name, content, lines, one, drawn(case, one)))
    return explained


def _asked(codec: Codec, value: str, records: int) -> tuple[Columns, list[str]]:
    """As `suite.workflow.folders.asked`, the first records alone where ``records`` says how many."""
    columns, names = folders.asked(codec, value)
    first = slice(records or None)
    return {name: values[first] for name, values in columns.items()}, names[first]


def drawn(case: Case, one: Explanation) -> bytes | None:
    """The map of a picture or of a recording as a PNG; None of what has none."""
    for name, found in one.maps.items():
        labels = case.labels[name]
        if name in case.division.scaled and found.ndim == 2:
            real = int((labels[:, 0] != KEPT).sum()) if found.shape == labels.shape else len(found)
            return over_time(found[:real])
        if case.division.shapes and labels.ndim == 3:
            pixels = np.asarray(case.batch[name][0])
            return overlay(pixels.reshape(pixels.shape[-3:]), found.sum(-1) if found.ndim == 3 else found)
    return None


def _of_bundle(bundle: Bundle, value: str, method: str, chosen: str, records: int) -> list[Explained]:
    where = f'bundle "{bundle.folder}"'
    if EXPLAIN not in bundle.programs:
        fix = f"suite export RUN --explain --to {shlex.quote(f'{bundle.folder}-explained')}"
        problem = "was exported without the program that explains."
        raise InputError(where, problem, found=", ".join(bundle.programs), fix=fix)
    for flag, given, fixed in (("--method", method, INTEGRATED), ("--class", chosen, "")):
        if given != fixed:
            problem = "is for runs: a bundle explains the answered class by integrated gradients."
            raise InputError(f"flag {flag}", problem, found=given, fix="suite explain RUN")
    program = bundle.programs[EXPLAIN]
    columns, names = _asked(program.codec, value, records)
    explained = []
    for name, answer in zip(names, program.predict(columns), strict=True):
        parts, file = answer["attributions"], answer.get("map")
        units, values = [part["unit"] for part in parts], np.array([part["attribution"] for part in parts])
        lines = [name, f"  {answer['explained']}", f"  {scores(answer['score'], answer['blank_score'])}"]
        lines += [*listed(units, values), complete(answer["completeness_error"])]
        explained.append(Explained(name, {"input": name, **answer}, lines, None, file.data if file else None))
    return explained


def write_explanations(explained: Sequence[Explained], folder: str | Path) -> list[Path]:
    """Write ``explanations.jsonl``, a picture of each map, and of a run ``explanations.html``.

    Raises:
        InputError: the folder holds explanations already, or cannot be written.
    """
    folder = Path(folder)
    if (folder / LINES).exists():
        raise InputError(f'file "{folder / LINES}"', "is there already.", fix=f"--to {unused(folder)}")
    written, rows = [folder / LINES], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place, one in enumerate(explained, 1):
            content = dict(one.content)
            if one.drawn is not None:
                content["map"] = f"{place:04d}.png"
                (folder / content["map"]).write_bytes(one.drawn)
                written.append(folder / content["map"])
            rows.append(json.dumps(content, ensure_ascii=False, default=file_to_json) + "\n")
        files.write_text(folder / LINES, "".join(rows))
        known = [(one.name, one.explanation, one.drawn) for one in explained if one.explanation is not None]
        if known:
            section = Section("records", "Records", tuple(drawing.records(known)))
            write(Page("Explanations", "Explanations", (("records", str(len(known))),), (), (section,)), folder / PAGE)
            written.append(folder / PAGE)
    except OSError as error:
        raise InputError(f'folder "{folder}"', "cannot be written.", found=str(error.strerror)) from error
    return written
