"""One of two processes that agree, exchange and look at a folder; run as a script by test_hosts.

Arguments: address of the coordinator, number of the process, a folder that both have. What it finds goes to the file
``said-<number>`` there, as the collectives' own messages break into the lines of the standard output.
"""

import contextlib
import sys
from pathlib import Path

import jax
import numpy as np

from suite.contracts.metric import MetricState
from suite.errors import InputError, RunError
from suite.evaluation.metrics.ranking import Ranking
from suite.evaluation.metrics.translation import Overlap
from suite.parallel import hosts
from suite.parallel.batch_shards import own_part, own_rows, place
from suite.parallel.rendezvous import Place, joined
from suite.parallel.sharding import batch_sharding, make_mesh
from tests.retrieval import Distance


def fails(error):
    raise error


def raised(call):
    try:
        return f"returned {call()}"
    except (InputError, RunError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def main(process: int, folder: Path) -> None:
    print("agreed", hosts.agreed(lambda: ["said by", process]), hosts.agreed(lambda: 2**40))
    print("refused", raised(lambda: hosts.agreed(lambda: fails(InputError("field x", f"{process} is wrong.")))))
    print("disk", raised(lambda: hosts.agreed(lambda: fails(OSError("full")))))
    print("together", raised(lambda: hosts.together(lambda: process if process == 0 else fails(ValueError("mine")))))

    def make():
        path = folder / "made"
        if path.exists():
            return path.read_text()
        path.write_text(str(process))
        return "made it"

    print("after first", hosts.after_first(make))
    hosts.check_shared(folder)
    hosts.SHARED_SECONDS = 1.0  # of waiting for what will not appear
    print("not shared", raised(lambda: hosts.check_shared(folder / f"of-{process}")))

    rows = np.arange(3.0 + process) + 10 * process
    sums = {
        "auc": Ranking((rows, rows), (rows,)),
        "bleu": Overlap(np.array([process, 2]), 3, "chrf"),
        "loss": MetricState(np.float64(0.5), process),
        "distance": Distance({"vectors": np.arange(2.0) + process}, process + 1, np.ones(2)),
    }
    total = hosts.added(sums)
    print("auc", *(part.tolist() for part in total["auc"].total), "|", *(part.tolist() for part in total["auc"].count))
    print("bleu", total["bleu"].total.tolist(), total["bleu"].count, total["bleu"].metric)
    print("loss", total["loss"].total, total["loss"].count)
    parts = hosts.gathered(({"logits": rows}, {"mask": rows > 10}))
    print("gathered", *((outputs["logits"].tolist(), batch["mask"].tolist()) for outputs, batch in parts))
    distance = total["distance"]
    print("distance", distance.total["vectors"].tolist(), distance.count, distance.centre.tolist())

    from suite.experiment.sections import Parallel

    for parallel in (Parallel(), Parallel(data=2, tensor=2), Parallel(data=1, tensor=4)):
        mesh = make_mesh(parallel)
        part = own_part(mesh, 8)
        assert part is not None
        whole = np.arange(48).reshape(2, 8, 3)
        placed = place({"x": whole[:, part.rows]}, batch_sharding(mesh, leading=1), part)["x"]
        np.testing.assert_array_equal(hosts.fetched(placed), whole)
        flat = place({"x": whole[0][part.rows]}, batch_sharding(mesh), part)
        np.testing.assert_array_equal(own_rows(flat, part)["x"], whole[0][part.rows])
        print("rows", part.rows.tolist(), "owned", part.rows[part.owned].tolist())
    print("left out", raised(lambda: own_part(make_mesh(Parallel(data=2)), 8)))


if __name__ == "__main__":
    with joined(Place(sys.argv[1], 2, int(sys.argv[2]), join_seconds=60)):
        number, folder = int(sys.argv[2]), Path(sys.argv[3])
        assert jax.process_index() == number
        with open(folder / f"said-{number}", "w") as said, contextlib.redirect_stdout(said):
            main(number, folder)
