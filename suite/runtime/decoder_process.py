"""The decoder process: answers calls, see `suite.runtime.decoders`."""

import math
import os
import pickle
import resource
import socket

import numpy as np

from suite.runtime import child, decoder_messages, decoders


def main(descriptor: int) -> None:
    """Answers calls until the connection is closed.

    Args:
        descriptor: of the connection to the process that asks.
    """
    child.limit(resource.RLIMIT_AS, decoders.MEMORY)
    child.limit(resource.RLIMIT_CORE, 0)
    decoders.become_decoder()
    with socket.socket(fileno=descriptor) as connection:
        try:
            while (request := decoder_messages.requested(connection)) is not None:
                _answer(connection, request)
        except OSError:
            return  # the process that asks has ended
        except Exception:
            os._exit(decoders.ENDED)


def _answer(connection: socket.socket, request: bytearray) -> None:
    function, args, kwargs, seconds, folder = pickle.loads(request)  # imports what it needs, which is not on the clock
    _set_clock(seconds)
    arrays: list[np.ndarray] = []
    try:
        if os.getcwd() != folder:
            os.chdir(folder)
        value, raised = decoder_messages.packed(function(*args, **kwargs), arrays), False
    except MemoryError:
        value, raised = ["", "", "", {"dict": {}}], True
    except BaseException as error:  # of Rust's panics, too
        module, name, text, fields = decoder_messages.error_fields(error)
        if module.partition(".")[0] != "suite":
            module, text = "", f"{name}: {text}"[:200]
        value, raised = [module, name, text, {"dict": fields}], True
    decoder_messages.answer(connection, value, raised, arrays)


def _set_clock(seconds: float) -> None:
    """The system ends this process where the next call takes more processor time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    child.limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime + seconds))
