"""Names of splits: what folders, files, columns and arrays call train, validation and test."""

import re
from collections.abc import Iterable

SPLITS = ("train", "validation", "test")
"""The splits every Data knows."""
ALIASES = {"dev": "validation", "valid": "validation", "val": "validation"}
"""Other exact names for a split. `split_of` knows many more."""

_BEGINNINGS = {
    "train": r"train(?:ing)?|trn",
    "validation": r"val|valid|validat(?:e|ion|ing)|dev|devel|development",
    "test": r"test(?:ing)?|tst|eval|evaluation",
}
_THINGS = (
    "set|data|dataset|split|images?|imgs?|pictures|photos|audio|wavs?|clips|recordings|files|samples|examples|texts?"
)
_NAMES = {
    split: re.compile(rf"(?:seg)?(?:{names})(?:{_THINGS})*(?:(?:19|20)\d\d)?") for split, names in _BEGINNINGS.items()
}


def split_of(name: str) -> str:
    """The split that a name stands for, or ``""``: ``Training``, ``train_set``, ``TEST images``, ``seg_test``, ``dev``.

    Case, blanks and the separators ``_ - .`` do not count. ``eval`` is test: what it holds is never trained on.
    """
    plain = re.sub(r"[\s_.\-]+", "", name.lower())
    return next((split for split, names in _NAMES.items() if names.fullmatch(plain)), "")


def read_as(names: Iterable[str], what: str) -> list[str]:
    """A line that says which names are taken for splits; none where all are called as splits are.

    Args:
        names: as the data has them.
        what: what bears them: ``"folder"``, ``"file"``.
    """
    other = [f'"{name}" as {split_of(name)}' for name in sorted(set(names)) if name not in SPLITS]
    return [f"{what}s that name splits: {', '.join(other)}"] if other else []
