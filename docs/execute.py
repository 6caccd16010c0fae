"""Executes the notebook of the site in a fresh kernel and writes its outputs into it.

python docs/execute.py                 # docs/tutorial.ipynb itself, after a cell was changed
python docs/execute.py --out new.ipynb # elsewhere, as tests/test_tutorial.py does, which compares the outputs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("tutorial.ipynb")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
SECONDS = 300  # that a cell may take on a machine that does much else


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with new outputs, and with nothing of the machine or the editor that it was written on."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    # Where no source tree lies that Python would take for the package.
    with TemporaryDirectory() as empty:
        resources = {"metadata": {"path": empty}}
        NotebookClient(notebook, timeout=SECONDS, record_timing=False, resources=resources).execute()
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    return notebook


def main() -> None:
    """Called as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=NOTEBOOK)
    options = parser.parse_args()
    nbformat.write(executed(NOTEBOOK), options.out)


if __name__ == "__main__":
    main()
