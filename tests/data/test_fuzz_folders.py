"""A few of the folders that scripts/fuzz_folders.py generates; the script itself checks what it promises."""

import importlib.util
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_folders", ROOT / "scripts" / "fuzz_folders.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_folders"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(16))
def test_a_generated_folder(fuzz, seed):
    assert fuzz.run(seed)


@pytest.mark.filterwarnings("ignore")
def test_the_fuzz_sees_both_kinds_answers_and_refusals(fuzz):
    seen = sum((fuzz.run(seed) for seed in range(6)), fuzz.collections.Counter())
    assert min(seen[name] for name in ("image", "audio", "fitted", "answered", "not answered", "batches")) > 0, seen
