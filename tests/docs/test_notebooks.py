"""The notebooks run from their first cell to their last, on a model of two steps."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs"

SMALL = """
COUNT, RANKED, OTHERS = 6, 2, 2
QUICK = [
    "--set", "train.num_steps=2", "--set", "train.batch_size=4", "--set", "after_training=()",
    "--set", "model.network.features=32", "--set", "model.network.blocks=1",
    "--set", "evaluate.ode.lanes=4",
]
"""


@pytest.mark.parametrize("name", ["likelihood"])
def test_notebook_runs_on_a_model_that_it_trains_itself(name, tmp_path):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    at = next(i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", []))
    workdir = f"WORKDIR = {str(tmp_path / 'tiny')!r}\n"
    notebook.cells.insert(at + 1, new_code_cell(workdir + SMALL))
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}
    )
    client.execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    printed = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    assert "bits per dimension, 6 digits" in printed
    assert printed.count("AUC") == 3
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 3
