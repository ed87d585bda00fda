"""Memory of a step stays with the process, however the process began to compute."""

import sys

import pytest

BEGINNINGS = {
    "command": "from suite.cli.app import main; main(['train', 'vision.digits_dnn', '--smoke', '--run-dir={folder}'])",
    "function": "import suite; suite.train(suite.load('vision.digits_dnn', smoke=True), '{folder}')",
}
ASK = """
import ctypes
libc = ctypes.CDLL(None)
libc.fopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
libc.fclose.argtypes = (ctypes.c_void_p,)
file = libc.fopen(b"{told}", b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_all_threads_of_a_training_allocate_in_the_arena_that_keeps_memory(child, tmp_path, beginning):
    """A thread with an arena of its own has blocks of more than 64 MB mapped anew in each step, whatever is set."""
    told = tmp_path / "malloc.xml"
    child(BEGINNINGS[beginning].format(folder=tmp_path / "run") + ASK.format(told=told))
    assert told.read_text().count("<heap nr=") == 1
