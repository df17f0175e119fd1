"""The examples of docs/python.md and the notebook run as they stand."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest

from conftest import ROOT
from fergen_bench.experiment.project import Project

WHOLE, PART = 'load_results("reference")', 'load_results("reference/synth5/synth5-sampling")'
"""What the page loads, and the part of it that makes the same tables sooner; tests/report examines the whole."""


def execute(cells: list[str]) -> list[Any]:
    """Run cells in one namespace, and return the value of the last expression of each, as a notebook shows it."""
    names: dict[str, Any] = {}
    shown = []
    for number, text in enumerate(cells):
        tree = ast.parse(text)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        expression = ast.Expression(last.value) if isinstance(last, ast.Expr) else None
        shown.append(None if expression is None else eval(compile(expression, f"cell {number}", "eval"), names))
    return shown


def test_the_examples_of_the_page_run(project: Project, sketched: None) -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert text.count(WHOLE) == 1
    part = [block.replace(WHOLE, PART) for block in blocks if not re.search("^# needs ", block, re.MULTILINE)]
    shown = execute(part)
    assert set(shown[0].method) == {"linear_probe", "nearest_prototype"}
    assert len(shown[1]) == 3
    assert (project.root / "my-report" / "index.html").is_file()


@pytest.mark.slow
def test_the_notebook_runs(project: Project) -> None:
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells)
    shown = execute(["".join(cell["source"]) for cell in cells])
    assert "20 runs\nmethods: linear_probe and nearest_prototype\n" in repr(shown[1])
    assert shown[-1].is_file()
