"""Batches that training is given, noted in a file by processes that tests kill."""

import os
import time


def noting(file, pause):
    """An ``on_dispatch`` that appends each step and its ids to ``file``, then waits ``pause`` seconds.

    One write a dispatch, unbuffered: what is in the file was asked to be trained on, however the process ends.
    """
    opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(item):
        rows = [",".join(map(str, row)) for row in item.indices.tolist()]
        os.write(opened, "".join(f"{item.first + i} {row}\n" for i, row in enumerate(rows)).encode())
        time.sleep(pause)

    return note
