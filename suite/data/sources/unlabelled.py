"""Files that need no class: what is learnt without labels."""

from dataclasses import dataclass
from pathlib import Path

from suite.data.sources import folders
from suite.data.sources.files import Folder


@dataclass(frozen=True, kw_only=True)
class Files(Folder):
    """All images, or recordings or texts, below a path, whether in folders of classes or not.

    Where all lie in a folder of their class, it is as `Folder` reads them. Otherwise there is no column ``label``, and
    the only folders that mean something are those at the top that are named as splits.
    """

    def _tree(self, path: Path) -> folders.Tree:
        return folders.scan_all(path)


def unlabelled(data: Folder) -> Files:
    """The same folder, of which files need no class."""
    return Files(path=data.path, validation=data.validation, test=data.test, seed=data.seed, stratify=data.stratify)
