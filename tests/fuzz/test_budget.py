"""What the fuzzers share."""

from pathlib import Path

import pytest

from tests.fuzz.conftest import Budget


def test_a_case_can_be_made_again_alone(tmp_path: Path) -> None:
    drawn = {number: generator.integers(1 << 40) for number, generator in Budget(3, 60, 5, 0, tmp_path)}
    again = {number: generator.integers(1 << 40) for number, generator in Budget(3, 60, 1, 4, tmp_path)}
    assert list(drawn) == [0, 1, 2, 3, 4] and len(set(drawn.values())) == 5
    assert again == {4: drawn[4]}


def test_a_failure_names_the_input_and_the_case(tmp_path: Path) -> None:
    budget = Budget(7, 60, 3, 0, tmp_path)
    with pytest.raises(pytest.fail.Exception, match="FUZZ_SEED=7 FUZZ_FIRST=2 FUZZ_CASES=1") as failure:
        for number, _ in budget:
            if number == 2:
                budget.failed("it fell", b"\x00case")
    assert (tmp_path / "case-7-2").read_bytes() == b"\x00case" and str(tmp_path / "case-7-2") in str(failure.value)


def test_seconds_end_it_where_no_cases_are_given(tmp_path: Path) -> None:
    assert len(list(Budget(0, 0, None, 0, tmp_path))) == 1
