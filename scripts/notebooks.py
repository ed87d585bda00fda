"""Notebooks are kept as Python files, cells parted by ``# %%``. This makes the .ipynb files, and executes them.

A notebook is executed as a kernel would, cell by cell in one namespace, and every figure that a cell leaves is saved.
With SMOKE in the environment it takes its recipes' smallest form.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import jupytext

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
METADATA = {
    "colab": {"provenance": [], "toc_visible": True},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/notebooks", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("write", help="make every .ipynb anew")
    run = verbs.add_parser("run", help="execute notebooks here")
    run.add_argument("names", nargs="+", choices=sorted(path.stem for path in sources()), metavar="NAME")
    run.add_argument("--figures", default="runs/figures", help="where figures are saved, default: %(default)s")
    options = parser.parse_args()
    if options.verb == "write":
        for source in sources():
            source.with_suffix(".ipynb").write_text(notebook(source), encoding="utf-8")
    else:
        for name in options.names:
            execute(NOTEBOOKS / f"{name}.py", Path(options.figures))


def sources() -> list[Path]:
    """The Python files that notebooks are made of."""
    return sorted(NOTEBOOKS.glob("*.py"))


def notebook(source: Path) -> str:
    """The .ipynb of a source: without outputs, and the same each time it is made."""
    cells = [_cell(cell, f"{source.stem}-{place}") for place, cell in enumerate(jupytext.read(source).cells)]
    made = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _cell(cell: Any, name: str) -> dict[str, Any]:
    made = {"cell_type": cell.cell_type, "id": name, "metadata": {}, "source": cell.source.splitlines(keepends=True)}
    return made | {"execution_count": None, "outputs": []} if cell.cell_type == "code" else made


def code(source: Path) -> list[str]:
    """The code cells of a source, in order."""
    return [cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code"]


def execute(source: Path, figures: Path) -> dict[str, Any]:
    """Run a notebook's cells.

    Args:
        source: the Python file.
        figures: folder for its figures, ``<notebook>-<cell>-<figure>.png``.

    Returns:
        The variables that the cells leave.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")  # show() has nowhere to show them
    figures.mkdir(parents=True, exist_ok=True)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for place, text in enumerate(code(source), 1):
        exec(compile(text, f"{source.name}, cell {place}", "exec", dont_inherit=True), namespace)
        for number in pyplot.get_fignums():
            pyplot.figure(number).savefig(figures / f"{source.stem}-{place:02}-{number}.png")
        pyplot.close("all")  # as a kernel does once it has shown them
        sys.stdout.flush()
    return namespace


if __name__ == "__main__":
    main()
