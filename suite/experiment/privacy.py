"""Differential privacy of an experiment: what its training may tell of a record."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """Differentially private training (`Abadi et al., 2016 <https://arxiv.org/abs/1607.00133>`_): the gradient of each
    record is clipped, and noise is added to the sum of a batch that is drawn by Poisson sampling. How much noise is
    solved for. Neighbouring data differ by one record, which is added or removed, or by all records of a unit.
    """

    epsilon: float = field(default=0.0, metadata={"example": 3.0})
    """Most that all steps of the run may tell of one record, at ``delta``. 0: training is not private."""
    delta: float = 0.0
    """Probability that they tell more, below one over the number of records. 0: the largest power of ten that is."""
    clip_norm: float = 1.0
    """Norm to which the gradient of each record is scaled down."""
    microbatch: int = 32
    """Records that a device computes at a time: more are faster, fewer take less memory."""
    unit: str = ""
    """Column that says whose a record is, such as a user: all records of one are protected together. Empty: each record
    by itself."""
    per_unit: int = 8
    """Most records of a unit in one step, at random; with ``unit``."""
    canaries: int = 0
    """Training records of which a coin leaves out each second one, so that ``suite audit`` can guess which; with
    ``epsilon`` or without."""
    canary_column: str = ""
    """Column, such as the label, whose values are shuffled among the canaries: what is wrong is remembered if anything
    is, and tells an audit more. Empty: canaries stay as they are."""
    key: str = field(default="", metadata={"secret": True})
    """Hexadecimal digits from which batches and noise are drawn. Empty: drawn by the operating system and kept in the
    run folder, which its readers can undo the noise with. Nothing else that is written holds it."""

    def delta_for(self, units: int) -> float:
        """``delta``, or the largest power of ten below 1 / ``units``."""
        return self.delta or 10.0 ** (-math.floor(math.log10(units)) - 1)
