"""Seconds from starting Python to imported, and to the help text. Peers: import torch, import transformers.

python -m benchmarks.startup
"""

import subprocess
import sys

from benchmarks.harness import main, variant


def starting(*arguments: str):
    """A step that runs Python with ``arguments`` to its end."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


IMPORT = "start: import"
variant(IMPORT, "ours: import suite")(lambda: starting("-c", "import suite"))
variant(IMPORT, "ours: import suite.training.trainer")(lambda: starting("-c", "import suite.training.trainer"))
variant(IMPORT, "ours: suite --help")(lambda: starting("-m", "suite", "--help"))
variant(IMPORT, "import torch")(lambda: starting("-c", "import torch"))
variant(IMPORT, "import torch, transformers (Trainer)")(
    lambda: starting("-c", "import torch; from transformers import Trainer, AutoModelForSequenceClassification")
)

if __name__ == "__main__":
    main()
