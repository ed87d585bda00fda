"""One of several processes that watch each other, without JAX; run as a script by test_hosts.

Arguments: address, how many processes there are, the number of this one, and what it does: ``waits``, ``dies`` (by a
signal), ``refuses`` (an error of its own, exit code 2).
"""

import os
import signal
import sys
import time

from suite.parallel.failure_detector import FailureDetector
from suite.parallel.rendezvous import Place, muster

if __name__ == "__main__":
    count, process, does = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    watch = FailureDetector(process, muster(Place(sys.argv[1], count, process, join_seconds=30)), count)
    watch.start()
    if does == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "refuses":
        told = watch.leave("record 7 is broken", 2)
        print("told" if told else "record 7 is broken", file=sys.stderr)
        sys.stderr.flush()
        os._exit(2)
    time.sleep(60)
