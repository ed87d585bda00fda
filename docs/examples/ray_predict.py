"""Predictions on many machines: a bundle answers the blocks of a Ray dataset.

Ray reads, distributes and writes. Each worker opens the bundle once, and turns tables of records into tables of
answers, with the columns that ``suite predict --to`` writes.

command:  pip install "ray[data]"
          python docs/examples/ray_predict.py bundles/reviews new.parquet answers --keep id --workers 4
"""

import argparse
from typing import TYPE_CHECKING

from suite.workflow.answer_table import TableOfAnswers

if TYPE_CHECKING:
    import pyarrow as pa


class Answers:
    """What a worker does: made once, then called with each of its blocks.

    Args:
        bundle: folder of a bundle, or of a run, that every machine can read.
        keep: columns of the records that stand before the answers.
    """

    def __init__(self, bundle: str, keep: tuple[str, ...] = ()):
        self._answers = TableOfAnswers(bundle, keep)

    def __call__(self, records: "pa.Table") -> "pa.Table":
        return self._answers(records)


def main() -> None:
    import ray

    parser = argparse.ArgumentParser(description="Answers of a bundle on a Ray cluster.")
    parser.add_argument("bundle", help="folder of a bundle, or of a run")
    parser.add_argument("records", help="Parquet file, or a folder of them")
    parser.add_argument("answers", help="folder of Parquet files to write")
    parser.add_argument("--keep", nargs="*", default=[], help="columns that stand before the answers")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer, over all machines")
    parser.add_argument("--cpus", type=float, default=1.0, help="of each process; reading needs some, too")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each process")
    parser.add_argument("--batch-size", type=int, default=1024, help="records of a block")
    given = parser.parse_args()
    records = ray.data.read_parquet(given.records)
    answers = records.map_batches(
        Answers,
        fn_constructor_args=(given.bundle, tuple(given.keep)),
        batch_format="pyarrow",
        batch_size=given.batch_size,
        compute=ray.data.ActorPoolStrategy(size=given.workers),
        num_cpus=given.cpus,
        num_gpus=given.gpus,
    )
    answers.write_parquet(given.answers)


if __name__ == "__main__":
    main()
