"""Seconds from `suite train` to its first step, from an empty cache of compiled programs, on 5,000 short texts.

text.encoder on phrases of SST-2 (SUITE_DATA), as a command of its own; the step counts as taken where its line of
progress is printed. Beside seconds of the clock, those of the processors, all threads together. With --before, another
checkout takes turns with this one.

    python -m benchmarks.first_step --rounds 5
    python -m benchmarks.first_step --before ../before
"""

import argparse
import csv
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXTS = 5_000
HERE = Path(__file__).resolve().parent.parent


def write_texts(path: Path) -> None:
    """The first phrases of SST-2, with their labels, as a table."""
    lines = (Path(os.environ["SUITE_DATA"]) / "sst2_glue" / "train.tsv").read_text().splitlines()[1 : TEXTS + 1]
    rows = [line.split("\t") for line in lines]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, ("no", "yes")[int(label)]) for label, text in rows)])


def seconds_to_first_step(checkout: Path, table: Path, recipe: str) -> tuple[float, float]:
    """(clock, processors) of one start, with fresh folders for the run and for compiled programs."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "SUITE_CACHE": f"{folder}/cache"}
        command = [sys.executable, "-m", "suite", "train", recipe, "--data", str(table), "--run-dir", f"{folder}/run"]
        begun = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--train.log_every", "1"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if re.match(r"step 1/", line):
                    return time.perf_counter() - begun, _processor_seconds(process.pid)
            raise RuntimeError("".join(said))
        finally:
            process.kill()
            process.wait()


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, which takes turns with this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipe", default="text.encoder")
    given = parser.parse_args()
    checkouts = {"this": HERE, **({"before": given.before.resolve()} if given.before else {})}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "texts.csv"
        write_texts(table)
        for number in range(given.rounds + 1):
            for name, checkout in checkouts.items():
                taken = seconds_to_first_step(checkout, table, given.recipe)
                if number:  # the first start of each writes Python's own caches
                    times[name].append(taken)
                    print(f"round {number} {name:6} {taken[0]:7.2f} s {taken[1]:7.2f} processor s", flush=True)
    for name, taken in times.items():
        clock, processors = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"{name:6} median {clock:.2f} s, {processors:.2f} processor s")
    if given.before:
        for which, unit in enumerate(("clock", "processors")):
            ratios = [a[which] / b[which] for a, b in zip(times["this"], times["before"], strict=True)]
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            print(f"this / before, {unit}: {middle:.2f} ({low:.2f}..{high:.2f})")


if __name__ == "__main__":
    main()
