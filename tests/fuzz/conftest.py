"""Fixtures of the fuzzers. `FUZZ_SEED`, `FUZZ_SECONDS` and `FUZZ_CASES` set where they begin and how long they run."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest


def pytest_collection_modifyitems(items):
    """Every test of this folder is a fuzzer."""
    for item in items:
        if item.module.__name__.startswith("tests.fuzz."):
            item.add_marker("fuzz")


class Budget:
    """How long a fuzzer runs, and what is told when it fails.

    Args:
        seed: of the first case; case n draws from a generator of (seed, n), so one case can be made again alone.
        seconds: after which no case begins; none where the number of cases is given.
        cases: most cases.
        first: the first case's number.
        folder: where a failing input is written to.
    """

    def __init__(self, seed: int, seconds: float, cases: int | None, first: int, folder: Path):
        self.seed, self.seconds, self.cases, self.first, self.folder = seed, seconds, cases, first, folder
        self.done = 0

    def __iter__(self) -> Iterator[tuple[int, np.random.Generator]]:
        """Number and generator of each case, until the cases or the seconds are used up. At least one is run."""
        begin, self.done = time.monotonic(), 0
        while True:
            number = self.first + self.done
            yield number, np.random.default_rng((self.seed, number))
            self.done += 1
            if self.done == self.cases or (self.cases is None and time.monotonic() - begin >= self.seconds):
                break
        print(f"{self.done} cases of seed {self.seed} in {time.monotonic() - begin:.1f} s")

    def failed(self, why: str, case: bytes) -> None:
        """Fail the test: the input is written to a file, which the message names with what makes it again."""
        number = self.first + self.done
        path = self.folder / f"case-{self.seed}-{number}"
        path.write_bytes(case)
        again = f"FUZZ_SEED={self.seed} FUZZ_FIRST={number} FUZZ_CASES=1"
        pytest.fail(f"{why}\ninput: {path}\nafter {self.done} cases; again: {again}")


@pytest.fixture
def seed() -> int:
    """The seed of this run."""
    return int(os.environ.get("FUZZ_SEED", "0"))


@pytest.fixture
def budget(seed: int, tmp_path: Path) -> Budget:
    """Iterated over by a fuzzer: `for number, generator in budget`, with `budget.failed(why, input)` for a fault.

    `FUZZ_CASES` cases where it is set, else as many as begin within `FUZZ_SECONDS`, 4 by default. `FUZZ_FIRST` is the
    number of the first case, for one that failed.
    """
    cases = os.environ.get("FUZZ_CASES")
    seconds = float(os.environ.get("FUZZ_SECONDS", "4"))
    return Budget(seed, seconds, int(cases) if cases else None, int(os.environ.get("FUZZ_FIRST", "0")), tmp_path)
