"""ModelConfig: a frozen dataclass that builds one model, with the tables of its family."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from suite.errors import InputError

if TYPE_CHECKING:
    from flax import nnx

    from suite.contracts.units import Units


class ModelConfig(ABC):
    """A frozen dataclass that builds one model. A field left at 0 is taken from the task (see Preprocessor.sizes)."""

    parts: "Mapping[str, ModelConfig]" = MappingProxyType({})
    """The models that a composite one is made of, by name: a field of `suite.models.parts.Parts`, empty elsewhere."""

    @abstractmethod
    def build(self, *, rngs: "nnx.Rngs") -> "nnx.Module":
        """Allocate the model's parameters."""

    @property
    @abstractmethod
    def sharding(self) -> tuple[tuple[str, Any], ...]:
        """The SHARDING table of the family: (regex on the parameter path, PartitionSpec); first match wins."""

    def layer_of(self, path: str) -> int:
        """Depth of a parameter for layer-wise learning rates: 0 is nearest the input, ``depth`` the head."""
        return 0

    @property
    def tables(self) -> dict[str, str]:
        """Parameters of which a step touches only the rows its batch names: path -> key of the batch's row numbers.

        The trainer puts the rows ``table[batch[key]]`` in the table's place while it differentiates, so that neither
        the gradient nor the optimiser ever has the table's size. See `suite.training.optim.sparse_embeddings`.
        """
        return {}

    @property
    def depth(self) -> int:
        """The largest value of ``layer_of``."""
        return 0

    @property
    def served(self) -> "ModelConfig":
        """This configuration without parts that only training needs, such as discriminators: what a bundle holds. The
        parameters that are left keep their paths."""
        return self

    @property
    def head(self) -> str:
        """Regular expression on the paths of the parameters whose last axis is the model's outputs."""
        return r"^head/"

    @property
    def headless(self) -> bool:
        """Whether the model gives vectors alone, so that it answers nothing before a head is trained."""
        return getattr(self, "outputs", None) == 0

    @property
    def omitted(self) -> str:
        """Regular expression on the paths of the parameters that published weights of the family have, and this model,
        besides its head, leaves out."""
        return r"(?!)"

    @property
    def shared_by_tensor(self) -> dict[str, int]:
        """Sizes that ``parallel.tensor`` must divide, by field: attention heads, each of which stays on one device."""
        return {}

    @property
    def vector_sizes(self) -> dict[str, int]:
        """Sizes that a part which is given this model's vectors must agree with: ``inputs``, the size of a vector, and
        what else the family states. Empty: the model gives no vectors."""
        return {}

    @property
    def prunable(self) -> "tuple[Units, ...]":
        """The PRUNING table of the family: what can be taken out of its layers whole. See `suite.surgery.units`."""
        return ()

    def adopt(self, published: "ModelConfig") -> "ModelConfig":
        """This configuration with what decides the shape of the body taken from ``published`` weights' own.

        What training decides (classes, dropout, pooling) stays. Families that have published weights override it.

        Raises:
            InputError: ``published`` is of another family.
        """
        problem = f"{type(self).__module__} has no published weights to start from."
        raise InputError(
            "field checkpoint.init_from",
            problem,
            found=type(published).__module__,
            fix="a model of that family, or a run folder",
        )
