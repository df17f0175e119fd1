"""`fergen-bench new-method`: the files it writes run unchanged."""

from __future__ import annotations

import pytest

from conftest import Bench
from fergen_bench.experiment.project import Project


@pytest.mark.parametrize("kind", ["gradient", "frozen"])
def test_a_new_method_runs_unchanged(project: Project, bench: Bench, kind: str) -> None:
    made = bench("new-method", "my_idea", "--kind", kind)
    assert made.code == 0
    assert "methods/my_idea.py is written" in made.out
    result = bench("run", "--method", "my_idea", "--protocol", "smoke", "--jobs", "0", "--no-track")
    assert result.code == 0, result.err
    assert "my_idea" in bench("report").out
