"""From what a model says of each frame to what was said. On the host, in NumPy and plain Python."""

from suite.decoding.ctc import Beam, Decoder, Greedy
from suite.decoding.ngrams import NGrams, Vocabulary

__all__ = ["Beam", "Decoder", "Greedy", "NGrams", "Vocabulary"]
