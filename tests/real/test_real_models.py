"""Published networks, fetched from package registries: the finder searches their conventions unaided."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from real_models import MODELS, Unavailable

import fergen_bench as fb
from fergen_bench.experiment.project import Project, find_project

FOLDER = os.environ.get("FERGEN_REALFACES")

FER2013 = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
FACE_API = ("neutral", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
RIGHT = {
    "fer": (FER2013, "grey", 1, (64, 64), "0-1", (0.5,), (0.5,)),
    "face-api": (FACE_API, "rgb", 3, (112, 112), "0-1", (0.4815, 0.4588, 0.4090), (1.0,)),
    "human": (FER2013, "grey", 1, (64, 64), "0-1", (0.5,), (0.5,)),
}
"""By model: its classes, colours, channels, size, range, mean and deviation, as its own code applies them."""


@pytest.fixture
def real(project: Project) -> Project:
    """Return a project with a suite of the folders of real faces; web48 has images of FER2013."""
    assert FOLDER
    names = sorted(path.name for path in Path(FOLDER).iterdir() if path.is_dir())
    tables = "".join(f'[domains.{name}]\npath = "{Path(FOLDER) / name}"\n' for name in names)
    seen = '[["web48", "fer2013"]]' if "web48" in names else "[]"
    suite = f"[suites.real]\ndomains = {names}\nbackbone = 'synth'\ntrunk = 'synth-trunk'\noverlaps = {seen}\n"
    toml = project.root / "bench.toml"
    toml.write_text(toml.read_text() + tables + suite)
    return find_project(project.root)


AMBIGUOUS = {("face-api", "news"): "face-api.js", ("human", "web48"): "-1 to 1"}
"""Searches that choose half the contrast or another mean, and name the right normalisation as one that fits too."""


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="FERGEN_REALFACES names no folder of real faces")
@pytest.mark.parametrize("searched", ["news", "web48"])
@pytest.mark.parametrize("name", MODELS)
def test_a_published_network(name: str, searched: str, real: Project, tmp_path: Path) -> None:
    try:
        model = MODELS[name](Path(os.environ.get("FERGEN_REAL_MODELS", tmp_path)))
    except Unavailable as error:
        pytest.skip(str(error))
    done = fb.evaluate(
        model, suite="real", find_convention=searched, trained_on=["fer2013"], name=name, track=False, project=real
    )
    convention, found = done.convention, done.found
    assert convention is not None
    assert found is not None
    print(f"\n{name}, searched on {searched}: {convention}; {convention.classes}; also {found.alike}")
    print(done.cells[["target", "relation", "faces", "accuracy", "low", "high"]].to_string(index=False))
    assert not done.warnings
    right = RIGHT[name]
    own = (convention.classes, convention.colour, convention.channels, convention.size)
    assert own == right[:4]
    chosen = (convention.range, convention.mean, convention.deviation)
    if (name, searched) in AMBIGUOUS:
        assert chosen != right[4:]
        assert AMBIGUOUS[name, searched] in dict(found.alike)["normalisation"]
    else:
        assert chosen == right[4:]
    relations = {cell.target: cell.relation for cell in done.record.cells}
    assert relations["web48"] == "seen"
    assert relations["news"] == "unseen"
