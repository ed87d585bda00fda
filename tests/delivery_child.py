"""`suite run` as the command line runs it, killed after a given time; run as a script by test_delivery.

Arguments: seconds, and those of the command line.
"""

import os
import signal
import sys
import threading

from suite.cli import app


def main(seconds: float, arguments: list[str]) -> None:
    killer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL))
    killer.daemon = True
    killer.start()
    app.main(arguments)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
