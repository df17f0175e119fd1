"""`fergen-bench list`: names, and the description of one."""

from __future__ import annotations

from conftest import Bench
from fergen_bench.experiment.project import Project


def test_lists_name_everything_and_describe_one(mine: Project, bench: Bench) -> None:
    everything = bench("list").out
    for name in ("cafe", "mine", "leave-none", "synth5", "open_clip:MODEL/TAG", "grey48", "rafdb"):
        assert name in everything
    (mine.root / "methods" / "broken.py").write_text("class Broken(")
    methods = bench("list", "methods").out
    headings = (
        "Zero-shot",
        "Frozen features",
        "Fine-tuning",
        "FER",
        "Several sources",
        "Other methods",
        "Cannot be read",
    )
    places = [methods.index(f"\n{heading}" if heading != "Zero-shot" else heading) for heading in headings]
    assert places == sorted(places)
    assert places[1] < methods.index("linear_probe") < places[2]
    assert "[needs frozen features; a backbone with a text tower]" in " ".join(methods.split())
    assert "[yours]" in methods
    assert "this method file is not valid Python" in " ".join(methods.split())
    assert "sigmoid | linear" in bench("list", "cafe").out
    (mine.root / "protocols").mkdir()
    (mine.root / "protocols" / "torn.yaml").write_text("about: [")
    protocols = " ".join(bench("list", "protocols").out.split())
    assert "torn cannot be read:" in protocols
    assert "sources: each" in bench("list", "leave-none").out
    assert "synth5 is one of the suites" in bench("list", "synth5").err
    assert "did you mean leave-none?" in bench("list", "leave-nun").err
    assert "score all of them" in protocols
    parameters = bench("list", "mine").out
    assert "shift" in parameters
    assert "of the logits" in parameters
