"""Names of pictures and of recordings: the catalogue that texts are compared with."""

from dataclasses import dataclass

from suite.data.preprocessing.items import Items


@dataclass(frozen=True, kw_only=True)
class PictureNames(Items):
    """The pictures of the training split, by name. No model has a row for each."""

    column: str = "listed"
    """Field of the task that names the column of lists of names."""

    def sizes(self) -> dict[str, int]:
        """A model agrees with none."""
        return {}


@dataclass(frozen=True, kw_only=True)
class RecordingNames(PictureNames):
    """The recordings of the training split, by name."""
