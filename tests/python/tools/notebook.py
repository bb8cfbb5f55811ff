"""Runs a notebook as its reader would, cell by cell: notebook.py NOTEBOOK FOLDER"""

import sys

import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=120, resources={"metadata": {"path": sys.argv[2]}}).execute()
shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
tables = [output for output in shown if "text/html" in output.get("data", {})]
print(f"{len(notebook.cells)} cells, {len(shown)} outputs, {len(tables)} tables")
if len(tables) < 4:
    sys.exit("the tables of search, estimate, comparison and wallet are shown as such")
