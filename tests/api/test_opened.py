"""Runs that are opened for a training by hand, and the domains of suites."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_domain import make

import fergen_bench as fb
from fergen_bench.experiment.project import Project
from fergen_bench.records.store import RecordFile


@pytest.mark.parametrize("method", ["linear_probe", "nearest_prototype"])
def test_a_method_fitted_by_hand_gives_the_numbers_of_its_run(
    project: Project, results: fb.Results, method: str
) -> None:
    (record,) = (one for one in results.records if one.spec.method == method and one.spec.sources == ("web",))
    opened = fb.open_run(source="web", method=method)
    assert opened.run.key == record.spec.key
    assert opened.method is not None
    opened.method.fit(opened.source, opened.ctx)
    stored = RecordFile.open(record.spec.path(project.results / "runs")).predictions()["film"]
    film = opened.target("film")
    logits = opened.predict(film)
    logits -= logits.max(1, keepdims=True)  # as they are stored, in half precision
    np.testing.assert_allclose(logits, stored.logits, rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(film.labels, stored.labels)
    assert not (project.results / "unfinished").exists()


def test_a_run_without_a_method_has_the_images_and_the_random_streams_of_its_seed(project: Project) -> None:
    first, again, other = (fb.open_run(source=["film", "web"], seed=seed, fraction=0.5) for seed in (0, 0, 1))
    assert first.source.names == ("film", "web")
    assert repr(first) == f"OpenRun(film + web of synth5-tiny, seed 0: {len(first.source.train)} images)"
    assert repr(first.suite) == "OpenSuite(synth5-tiny: web, grey48, wild, film, scrape)"
    assert first.source.train.ids.tolist() == again.source.train.ids.tolist() != other.source.train.ids.tolist()
    draws = [torch.rand(3, generator=run.ctx.generator("x")).tolist() for run in (first, again, other)]
    assert draws[0] == draws[1] != draws[2]
    predicted = first.predict(first.target("web"), lambda images: images[:, 0, 0, :7].float(), batch=7)
    assert predicted.shape == (len(first.target("web")), 7)
    with pytest.raises(fb.BenchError, match=r"opened without a method; give a model, or open_run\(method=…\)"):
        first.predict(first.target("web"))


def test_a_method_that_adapts_receives_the_unlabelled_images(project: Project) -> None:
    opened = fb.open_run(source="web", method="dann", parameters={"adapt": True}, adapt_to="film")
    assert opened.ctx.unlabelled is not None
    assert len(opened.ctx.unlabelled) == len(fb.suite().domain("film").split("train"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "webb"}, "the suite synth5-tiny has no domain 'webb'; did you mean web"),
        ({"source": []}, "--sources: names no domain; the suite synth5-tiny has web"),
        ({"suite": "synth"}, "no suite 'synth'; did you mean synth5"),
        ({"method": "caffe"}, "no method 'caffe' .* did you mean cafe"),
        ({"method": "cafe", "parameters": {"gat": 1}}, "the method cafe has no parameter 'gat'; did you mean gate"),
        ({"backbone": "synth"}, "open_run: parameters and backbone belong to a method"),
        ({"fraction": 0.0}, r"open_run: fraction"),
        ({"selection": "best"}, r"open_run: selection"),
        ({"device": "gpu"}, "--device: 'gpu' is not a device"),
        ({"method": "t3a"}, "open_run: t3a starts from the checkpoint of another run"),
        ({"method": "coral"}, "coral compares domains and does nothing with one"),
        ({"method": "dann", "parameters": {"adapt": True}}, "open_run: dann adapts to a target; name it with adapt_to"),
        ({"method": "cafe", "adapt_to": "film"}, "open_run: adapt_to: cafe does not adapt to a target; leave it out"),
    ],
)
def test_what_no_run_could_have_is_refused(project: Project, options: dict[str, Any], message: str) -> None:
    with pytest.raises(fb.BenchError, match=message):
        fb.open_run(**{"source": "web", **options})


def test_a_suite_of_ones_own_gives_images_labels_and_names(project: Project) -> None:
    domain = make(project.data / "news")
    with (project.root / "bench.toml").open("a") as file:
        file.write('[suites.mine]\ndomains = ["news"]\n')
    test = fb.suite("mine").domain("news").split("test")
    assert test.ids.tolist() == [f"face{row}" for row in range(2, 70, 3)]
    assert test.labels.tolist() == [row % 7 for row in test.rows]
    np.testing.assert_array_equal(test.faces().permute(0, 2, 3, 1).numpy(), domain.faces[test.rows])
    with pytest.raises(fb.BenchError, match="the suite mine has no domain 'newss'; did you mean news"):
        fb.suite("mine").domain("newss")
    with pytest.raises(fb.BenchError, match="no suite 'mein'; did you mean mine"):
        fb.suite("mein")
