"""The fuzz of folders of pictures and recordings: nothing is lost silently, and a request is what training was."""

import pytest

from scripts import fuzz_folders
from suite.data.sources import folders


@pytest.mark.parametrize("seed", [0, 100])
def test_a_fuzz_of_folders_finds_nothing(seed):
    """Six folders each; all five hundred: python scripts/fuzz_folders.py."""
    outcome = fuzz_folders.fuzz(range(seed, seed + 6))
    assert not outcome.failures, outcome.failures[0]
    assert outcome.counts["by its bytes at a server"] > 5


def test_the_fuzz_notices_a_file_that_is_not_counted(monkeypatch):
    monkeypatch.setattr(folders.LeftOut, "add", lambda *given, **named: None)
    assert any("neither records nor counted" in failure for failure in fuzz_folders.fuzz(range(10)).failures)
