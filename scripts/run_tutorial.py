"""Runs docs/tutorial.ipynb in an empty folder, writes its outputs back and prints how long each cell took.

python scripts/run_tutorial.py
"""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook after a run in a folder, whose files it leaves there. An error in a cell is raised."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", coalesce_streams=True, resources=resources)
    client.execute()
    return notebook


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    for cell in notebook.cells:
        when = cell.metadata.pop("execution", {})
        if "shell.execute_reply" in when:
            began, ended = (datetime.fromisoformat(when[key]) for key in ("iopub.execute_input", "shell.execute_reply"))
            print(f"{(ended - began).total_seconds():6.1f} s  {cell.source.splitlines()[0]}")
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
