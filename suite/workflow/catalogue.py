"""``suite export --catalogue``: a bundle with other records to compare requests with, made of a run or of a bundle."""

import tempfile
from pathlib import Path
from typing import Any

from suite.bundles import catalogue, manifest
from suite.bundles.bundle import Bundle
from suite.bundles.catalogue import Embedded, no_catalogue
from suite.bundles.codecs import read_codec
from suite.errors import InputError
from suite.runtime.files import check_new, is_bundle
from suite.workflow.record_blocks import open_records

BLOCK = 4096
"""Records that are read at a time."""


def replace_catalogue(
    source: str | Path,
    records: str | Path,
    to: str | Path,
    *,
    allow: tuple[str, ...] = (),
    sign: str | Path = "",
    **options: Any,
) -> tuple[Bundle, Embedded]:
    """A bundle in the new folder ``to`` whose catalogue is ``records``, and what became of them. Nothing is trained.

    Args:
        source: a run or a bundle, the folder of one.
        records: a table (.csv .tsv .jsonl .json .parquet, .gz too), a file with a record a line, or a folder of files,
            with the columns that the task's catalogue has.
        to: a new folder.
        allow: packages whose classes the source may name, besides the suite's.
        sign: the file of the private key that the bundle is signed with; empty: none.
        **options: of `suite.exporting.exporting.export`, of a run.

    Raises:
        InputError: the catalogue cannot be replaced, or none of the records can be used.
        RunError: the exported bundle does not answer as the run does.
    """
    check_new(Path(to))
    if not is_bundle(source):
        from suite.exporting import exporting
        from suite.runs import run

        trained_run = run.open(source, allow)
        task = trained_run.experiment.task
        if task.catalogue is None and task.reference("predict") is not None:
            problem = "keeps its catalogue: its kind of model embeds no other records."
            raise InputError(f'run "{source}"', problem, found=f"the task {type(task).__name__}")
        if task.catalogue is None:
            raise no_catalogue(f'run "{source}"', list(trained_run.programs))
        Path(to).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="partial-", dir=Path(to).parent) as partial:
            bundle = Path(partial) / Path(to).name  # whose name may be that of the model
            exporting.export(trained_run, bundle, allow=allow, **options)
            return replace_catalogue(bundle, records, to, allow=allow, sign=sign)
    if options:
        name = next(iter(options))
        raise InputError(f"flag --{name}", "is of a run: a bundle keeps its own.", found=str(options[name]))
    source = Path(source)
    about = manifest.read(source)
    if about.catalogue is None:
        raise no_catalogue(f'bundle "{source}"', list(about.programs), manifest.REFERENCE in about.files)
    given = open_records(str(records), read_codec(source, about, about.catalogue.codec, allow))
    blocks = (columns for _, columns in given.blocks(0, BLOCK))
    embedded = catalogue.replace(source, blocks, to, called=Path(records).name, allow=allow, sign=sign)
    for reason, count in given.dropped.items():
        embedded.left_out.add(reason, count=count)
    return Bundle.open(to, allow), embedded
