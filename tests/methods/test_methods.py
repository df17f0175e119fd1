"""One exam for every plugin, shipped or freshly written from a template, on a world small enough to assert numbers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from tiny_clip import WORDS

from conftest import ROOT
from fergen_bench.cli.templates import method_template
from fergen_bench.data.domain import Domain, Unlabelled
from fergen_bench.data.source import Source, open_source
from fergen_bench.error import BenchError
from fergen_bench.execution.runner import TrackedSource, repeatable_on_gpu
from fergen_bench.execution.stream import stream
from fergen_bench.experiment.base import read_base
from fergen_bench.experiment.method_file import MethodFile, read_method
from fergen_bench.experiment.run import Precision
from fergen_bench.metric import confusion_matrix
from fergen_bench.networks.loading import content_digest, load_network
from fergen_bench.networks.network import Network
from fergen_bench.training.contract import Context, Method
from fergen_bench.training.export import export_method
from fergen_bench.training.images import labelled
from fergen_bench.training.load import load_method
from fergen_bench.training.loop import GradientMethod
from fergen_bench.training.online import OnlineMethod
from fergen_bench.training.saved import restore_method, save_method
from fergen_bench.training.trunk import AttentionMethod

CPU = torch.device("cpu")
SHIPPED = sorted(path.stem for path in (ROOT / "methods").glob("*.py"))
TEMPLATES = ["template_gradient", "template_frozen"]
SUITE_NETWORKS = {"backbone": "synth", "trunk": "synth-trunk", "network": "synth-trunk"}


@pytest.fixture(scope="module", params=SHIPPED + TEMPLATES)
def candidate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MethodFile:
    name: str = request.param
    if name in SHIPPED:
        return read_method(ROOT / "methods" / f"{name}.py")
    path = tmp_path_factory.mktemp("methods") / f"{name}.py"
    path.write_text(method_template(name, name.removeprefix("template_")))
    return read_method(path)


@pytest.fixture(scope="module")
def networks(candidate: MethodFile, request: pytest.FixtureRequest) -> dict[str, str]:
    """Networks by the parameter that names them: those of the suite, or one with a text tower for who needs it."""
    if candidate.name == "poster_pp":  # files with random weights of small networks
        return request.getfixturevalue("poster_files")
    if "text" not in candidate.needs:
        return SUITE_NETWORKS
    text = {"backbone": request.getfixturevalue("text_backbone")}
    if candidate.name == "exp_clip":  # a projection that keeps all angles, and sentences that the text tower knows
        text |= {"weights": str(request.getfixturevalue("projection")), "prompts": "clip"}
    return {**SUITE_NETWORKS, **text}


def loaded(candidate: MethodFile, values: dict[str, Any]) -> Method:
    """Return a method; one that has `sizes` gets small networks, since a processor cannot train large ones."""
    method = load_method(candidate.path, candidate.class_name, values)
    if hasattr(method, "sizes"):
        small = {"side": 64, "widths": (8, 16, 32), "depths": (1, 1, 1), "landmark_depths": (1, 1, 1), "width": 32}
        type(method).sizes = type(method.sizes)(**small)  # type: ignore[attr-defined]
    return method


@pytest.fixture(scope="module")
def poster_files(tmp_path_factory: pytest.TempPathFactory, candidate: MethodFile) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("poster")
    method: Any = loaded(candidate, candidate.defaults("small"))
    torch.manual_seed(0)
    body = sys.modules[type(method).__module__].Poster(method.sizes)
    values: dict[str, Any] = {}
    for name, network in (("ir50", body.face), ("landmarks", body.landmarks)):
        values[name] = str(folder / f"{name}.safetensors")
        save_file(network.state_dict(), values[name])
    return values


@pytest.fixture(scope="module")
def projection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "projection.safetensors"
    save_file(
        {
            "projection": torch.linalg.qr(torch.randn(48, WORDS, generator=torch.Generator().manual_seed(0)))[
                0
            ].contiguous()
        },
        path,
    )
    return path


def fitted(
    candidate: MethodFile,
    networks: dict[str, str],
    domains: list[Domain],
    cache: Path,
    adapted_to: Domain | None = None,
    fraction: float = 1.0,
    device: torch.device = CPU,
    selection: str = "last",
    source: Source | None = None,
    precision: Precision | None = None,
    **changes: Any,
) -> Method:
    """The method on a small source, with few epochs of small batches: most steps for the time. Adapted to a target
    where one is named. source: in place of one made of the domains.
    """
    values = candidate.defaults("small")
    method = loaded(candidate, values | {name: network for name, network in networks.items() if name in values})
    few: dict[str, Any] = {}
    if "epochs" in values:
        # Of the ten that most small recipes have; slow and unsteady ones need them all. With a pre-trained encoder half
        # of the time is enough, except for attention heads that start at random.
        pretrained = "backbone" in values and not isinstance(method, AttentionMethod)
        steady = pretrained or 2e-3 <= values.get("learning_rate", 2e-3) <= 4e-3
        share, most = (0.3 if pretrained else 0.6 if steady else 1.0), (6 if steady else 10)
        few["epochs"] = min(most, round(share * values["epochs"]))
    if "batch_size" in values:
        few["batch_size"] = 16
    if isinstance(method, AttentionMethod):
        few |= {"heads": 2, "spatial_width": 32}
    if "target_epochs" in values:
        few["target_epochs"] = 2
    method = replace(method, **few | changes)
    if getattr(method, "adapt", False) and adapted_to is None:  # by default
        adapted_to = domains[0]
    torch.manual_seed(0)
    unlabelled = None if adapted_to is None else Unlabelled(adapted_to)
    ctx = Context("exam", 0, selection, device, cache, lambda what, done, total: None, unlabelled)
    ctx.precision = precision or ctx.precision
    if candidate.online:
        ctx.base = fitted_base(values.get("base", ""), domains, cache, fraction, device, selection, source, precision)
    method.fit(source or open_source(domains, 0, fraction / len(domains)), ctx)
    return method


def fitted_base(text: str, domains: list[Domain], *options: Any) -> Method:
    """The method that an online method starts from."""
    base, changes = read_base(text, "exam", lambda name: read_method(ROOT / "methods" / f"{name}.py"))
    changes |= {"backbone": "synth-trunk"} if changes.get("backbone") == "trunk" else {}
    cache, fraction, device, selection, source, precision = options
    if fraction < 1 and any(parameter.name == "epochs" for parameter in base.parameters):
        changes["epochs"] = 1
    networks = {**SUITE_NETWORKS, **changes}
    return fitted(base, networks, domains, cache, None, fraction, device, selection, source, precision, **changes)


@pytest.fixture(scope="module")
def sources(candidate: MethodFile, web: Domain, film: Domain) -> list[Domain]:
    """One source, or as many as the method cannot do without."""
    return [web, film][: candidate.least_domains]


@pytest.fixture(scope="module")
def candidate_fitted(
    candidate: MethodFile, networks: dict[str, str], sources: list[Domain], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Method, Path]:
    cache, before = tmp_path_factory.mktemp("cache"), on_disk(sources)
    method = fitted(candidate, networks, sources, cache)
    assert on_disk(sources) == before, "a method that changes labels changes its own copy of them"
    return method, cache


def on_disk(domains: list[Domain]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for domain in domains for path in sorted(domain.folder.iterdir())}


@torch.no_grad()
def confusion(method: Method, domain: Domain, device: torch.device = CPU) -> np.ndarray:
    split = domain.split("test")
    if isinstance(method, OnlineMethod):
        order = np.concatenate(batches := stream(split.labels, "shuffled", 50, domain.name))
        method.reset()
        predicted = [method.predict(split.faces(batch).to(device)).argmax(1).cpu().numpy() for batch in batches]
        return confusion_matrix(split.labels[order], np.concatenate(predicted), 7)
    predicted = [method.predict(images).argmax(1).cpu().numpy() for images, _ in labelled(split, device)]
    return confusion_matrix(split.labels, np.concatenate(predicted), 7)


@torch.no_grad()
def test_exam_logits_are_finite_and_one_per_expression(candidate_fitted: tuple[Method, Path], film: Domain) -> None:
    logits = candidate_fitted[0].predict(film.split("test").faces())
    assert logits.shape == (len(film.split("test")), 7)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("precision", get_args(Precision))
def test_exam_the_same_seed_gives_the_same_confusion_with_an_empty_and_a_filled_cache(
    candidate: MethodFile,
    networks: dict[str, str],
    sources: list[Domain],
    film: Domain,
    tmp_path: Path,
    precision: Precision,
) -> None:
    # With so few images the best probe is one whose solution takes the most iterations.
    known = {parameter.name for parameter in candidate.parameters}
    few = {name: value for name, value in {"epochs": 1, "max_iterations": 50}.items() if name in known}
    found = []
    for _ in range(2):
        method = fitted(candidate, networks, sources, tmp_path, fraction=0.25, precision=precision, **few)
        found.append(confusion(method, film))
    np.testing.assert_array_equal(*found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_exam_a_gpu_gives_the_same_twice(
    candidate: MethodFile, networks: dict[str, str], sources: list[Domain], film: Domain, tmp_path: Path
) -> None:
    repeatable_on_gpu()
    few = {"epochs": 1} if any(parameter.name == "epochs" for parameter in candidate.parameters) else {}
    gpu = torch.device("cuda")
    one, two = (fitted(candidate, networks, sources, tmp_path, fraction=0.5, device=gpu, **few) for _ in range(2))
    np.testing.assert_array_equal(confusion(one, film, gpu), confusion(two, film, gpu))


def test_exam_it_is_better_than_always_saying_the_commonest(
    candidate: MethodFile, candidate_fitted: tuple[Method, Path], web: Domain
) -> None:
    if {"images", "file"} <= set(candidate.needs):
        pytest.skip("its networks start from files, whose weights are random here")
    matrix = confusion(candidate_fitted[0], web)
    assert np.trace(matrix) > matrix.sum(1).max()


@torch.no_grad()
def test_exam_a_prediction_does_not_depend_on_the_batch(candidate_fitted: tuple[Method, Path], film: Domain) -> None:
    method, faces = candidate_fitted[0], film.split("test").faces()[:40]
    if method.online:
        pytest.skip("it adapts to each batch")
    whole = method.predict(faces)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(method.predict(faces[order]), whole[order], atol=2e-3, rtol=1e-3)
    alone = torch.cat([method.predict(faces[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, whole[:4], atol=2e-3, rtol=1e-3)


def test_exam_a_stream_leaves_nothing_behind(candidate_fitted: tuple[Method, Path], web: Domain, film: Domain) -> None:
    method = candidate_fitted[0]
    if not isinstance(method, OnlineMethod):
        pytest.skip("it is not online")
    alone = streamed_logits(method, film)
    streamed_logits(method, web)
    assert torch.equal(streamed_logits(method, film), alone)


@torch.no_grad()
def streamed_logits(method: OnlineMethod, domain: Domain) -> torch.Tensor:
    split = domain.split("test")
    method.reset()
    batches = stream(split.labels, "shuffled", 30, domain.name)
    return torch.cat([method.predict(split.faces(batch)) for batch in batches])


@torch.no_grad()
def test_exam_faces_are_not_changed(candidate_fitted: tuple[Method, Path], film: Domain) -> None:
    faces = film.split("test").faces()[:16]
    before = faces.clone()
    candidate_fitted[0].predict(faces)
    assert torch.equal(faces, before)


def test_exam_nothing_frozen_was_trained(candidate_fitted: tuple[Method, Path], tmp_path: Path) -> None:
    method = candidate_fitted[0]
    model = getattr(method, "model", None)
    parts = [*vars(method).values(), *(model.modules() if isinstance(model, torch.nn.Module) else ())]
    for part in parts:
        if isinstance(part, Network) and part.frozen:
            assert all(p.grad is None and not p.requires_grad for p in part.parameters())
            fresh = load_network(part.name, CPU, part.statistics).freeze(tmp_path, lambda what, done, total: None)
            assert content_digest(part.body) == content_digest(fresh.body)


@torch.no_grad()
def test_exam_it_predicts_the_same_after_it_was_kept_and_restored(
    candidate: MethodFile, candidate_fitted: tuple[Method, Path], film: Domain, tmp_path: Path
) -> None:
    method, cache = candidate_fitted
    if method.online:
        pytest.skip("it leaves no checkpoint")
    save_method(method, tmp_path / "kept.safetensors")
    ctx = Context("exam", 0, "last", CPU, cache, lambda what, done, total: None)
    values = {parameter.name: getattr(method, parameter.name) for parameter in candidate.parameters}
    again = loaded(candidate, values)
    restore_method(tmp_path / "kept.safetensors", again, ctx)
    faces = film.split("test").faces()[:32]
    assert torch.equal(again.predict(faces), method.predict(faces))


@pytest.mark.slow
def test_exam_its_onnx_file_computes_what_it_computes(
    candidate_fitted: tuple[Method, Path], film: Domain, tmp_path: Path
) -> None:
    method, faces = candidate_fitted[0], np.array(film.faces[:64])
    if method.online:
        pytest.skip("it leaves no checkpoint to export")
    made = export_method(method, tmp_path / "m.onnx", [faces, faces[:8, :48, :60].copy()])
    assert made.difference <= 1e-4
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"image": faces})
    with torch.no_grad():
        expected = method.predict(torch.from_numpy(faces).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1).numpy())


@pytest.mark.slow
def test_exam_the_lent_loop_never_asks_for_faces_that_are_held_out(
    candidate: MethodFile, networks: dict[str, str], sources: list[Domain], tmp_path: Path
) -> None:
    source = TrackedSource.over(open_source(sources, 0, 0.25 / len(sources)))
    few = {"epochs": 1} if any(parameter.name == "epochs" for parameter in candidate.parameters) else {}
    values = {**candidate.defaults("small"), **few}
    if not isinstance(load_method(candidate.path, candidate.class_name, values), GradientMethod):
        pytest.skip("it has a loop of its own")
    fitted(candidate, networks, sources, tmp_path, selection="source-val", source=source, **few)
    assert not source.asked_for_all, "the runner keeps no held-out predictions of a method that asked for source.train"


def test_exam_a_method_that_compares_domains_refuses_a_single_one(
    candidate: MethodFile, networks: dict[str, str], web: Domain, tmp_path: Path
) -> None:
    if candidate.least_domains == 1:
        pytest.skip("one source is enough for it")
    with pytest.raises(BenchError, match=r"compares domains and does nothing with one, .* leave-one-out"):
        fitted(candidate, networks, [web], tmp_path)


@pytest.mark.parametrize("option", ["adapt", "pseudo_domains"])
def test_exam_one_source_is_enough_with_a_target_or_pseudo_domains(
    candidate: MethodFile, networks: dict[str, str], web: Domain, film: Domain, tmp_path: Path, option: str
) -> None:
    if option not in {parameter.name for parameter in candidate.parameters}:
        pytest.skip(f"it has no parameter {option}")
    changes: dict[str, Any] = {"adapt": True} if option == "adapt" else {"pseudo_domains": 2}
    target = film if option == "adapt" else None
    method = fitted(candidate, networks, [web], tmp_path, target, fraction=0.1, epochs=1, **changes)
    with torch.no_grad():
        assert torch.isfinite(method.predict(film.split("test").faces()[:16])).all()
