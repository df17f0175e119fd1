"""`fb.list_methods` and its like."""

from __future__ import annotations

import fergen_bench as fb
from fergen_bench.experiment.method_file import GROUPS
from fergen_bench.experiment.project import Project


def test_lists_are_data_frames(project: Project) -> None:
    methods = fb.list_methods().set_index("name")
    assert methods.needs["linear_probe"] == "frozen features"
    assert methods.group[["cafe", "coral", "sd"]].tolist() == ["FER", "several sources", "domain generalization"]
    assert set(methods.group) <= set(GROUPS)
    assert "leave-none" in set(fb.list_protocols().name)
    suites = fb.list_suites().set_index("name")
    assert suites.domains["synth5-tiny"][0] == "web"
    assert {"web", "rafdb"} <= set(fb.list_domains().name)
