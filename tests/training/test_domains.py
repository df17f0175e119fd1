"""Methods that treat domains apart, or adapt to a target: what the loop and the runner give them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from test_fer_methods import small_method
from test_golden import method_module
from torch import Tensor, nn
from torch.nn import functional

from conftest import Bench
from fergen_bench import Batch, BenchError, Context, Domains, GradientMethod, SampleDraws
from fergen_bench.data.domain import Domain, Split, Unlabelled
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.data.source import open_source
from fergen_bench.experiment.project import Project
from fergen_bench.records.counting import load_all
from fergen_bench.training import adversary as adversary_steps
from fergen_bench.training.domains import clusters

CPU = torch.device("cpu")


@dataclass
class Apart(GradientMethod):
    """A linear layer on a few pixels, and notes of what the loop gave."""

    least_domains: ClassVar[int] = 2
    epochs: int = 2
    batch_size: int = 16
    adapt: bool = False
    pseudo_domains: int = 0
    restart: int = -1

    def domains(self, split: Split, ctx: Context) -> Domains:
        self.apart, self.split, self.seen = Domains(self, split, ctx, "synth-trunk", 0, self.adapt), split, []
        return self.apart

    def build(self, ctx: Context) -> nn.Module:
        assert self.split is not None, "the domains are known when the model is built"
        return nn.Linear(12, 7)

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        return images[:, :, ::32, ::32].float() / 255 + 0.01 * draws.uniform("shift")[:, None, None, None]

    def restarts(self, step: int) -> bool:
        return step == self.restart

    def loss(self, batch: Batch) -> Tensor:
        self.seen.append(batch)
        return functional.cross_entropy(self.model(batch.images.flatten(1)), batch.labels)

    def logits(self, images: Tensor) -> Tensor:
        return self.model(images[:, :, ::32, ::32].flatten(1).float() / 255)


def fitted(method: Apart, sources: list[Domain], folder: Path, target: Domain | None = None) -> Apart:
    unlabelled = None if target is None else Unlabelled(target)
    ctx = Context("run", 0, "last", CPU, folder, lambda what, done, total: None, unlabelled)
    torch.manual_seed(0)
    method.fit(open_source(sources, 0), ctx)
    return method


def test_every_step_sees_equally_many_faces_of_each_domain(web: Domain, film: Domain, tmp_path: Path) -> None:
    method = fitted(Apart(), [web, film], tmp_path)
    origin = torch.from_numpy(method.split.domain_index)
    for batch in method.seen:
        assert batch.domains == 2
        assert batch.unlabelled is None
        assert origin[batch.index].tolist() == [0] * 16 + [1] * 16
    assert len(method.seen) == 2 * -(-len(method.split) // 32)
    small = min(map(len, method.apart.rows))
    epoch = torch.cat([batch.index[16:] for batch in method.seen if batch.epoch == 0])
    assert len(epoch) > small
    assert len(epoch.unique()) == small, "a small domain is seen whole before it is seen again"


@pytest.mark.parametrize("size", [16, 256])
def test_a_face_that_comes_twice_in_an_epoch_or_a_batch_is_changed_in_another_way(
    size: int, web: Domain, film: Domain, tmp_path: Path
) -> None:
    method = fitted(Apart(epochs=1, batch_size=size), [web, film], tmp_path)
    seen = method.seen if size == 16 else method.seen[:1]
    index, images = torch.cat([batch.index for batch in seen]), torch.cat([batch.images for batch in seen])
    twice = next(face for face in index.tolist() if (index == face).sum() > 1)
    assert len(images[index == twice].unique(dim=0)) == (index == twice).sum() > 1


def test_an_adapting_method_sees_the_target_beside_its_source(web: Domain, film: Domain, tmp_path: Path) -> None:
    method = fitted(Apart(adapt=True), [web], tmp_path, film)
    assert len(method.apart) == 2
    assert all(len(batch.labels) == 16 and batch.domains == 1 for batch in method.seen)
    assert all(batch.unlabelled is not None and batch.unlabelled.shape == batch.images.shape for batch in method.seen)
    again = fitted(Apart(adapt=True), [web], tmp_path, film)
    assert torch.equal(method.model.weight, again.model.weight)


def test_one_domain_and_an_adaptation_without_a_target_are_refused(web: Domain, film: Domain, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="Apart compares domains and does nothing with one, it needs two; train on"):
        fitted(Apart(), [web], tmp_path)
    with pytest.raises(BenchError, match=r"Apart\.adapt needs unlabelled images of a target, which this run lacks"):
        fitted(Apart(adapt=True), [web, film], tmp_path)


def test_unlabelled_faces_are_the_target_s_training_faces_and_nothing_says_what_they_show(film: Domain) -> None:
    unlabelled, train = Unlabelled(film), film.split("train")
    assert len(unlabelled) == len(train)
    assert (unlabelled.size, unlabelled.bytes) == (train.size, train.bytes)
    assert {name for name in dir(unlabelled) if not name.startswith("_")} == {"at_size", "bytes", "faces", "size"}
    assert not any(isinstance(value, Domain | Split) for value in vars(unlabelled).values())
    given, known = unlabelled.faces().flatten(1), train.faces().flatten(1)
    assert sorted(map(bytes, given.numpy())) == sorted(map(bytes, known.numpy()))
    assert not torch.equal(given, known), "datasets stand sorted by class, and the order would tell"
    assert torch.equal(unlabelled.faces(np.array([3, 1])), unlabelled.faces()[[3, 1]])


def halved(domain: Domain, folder: Path) -> Domain:
    """A domain with images at half of their size."""
    columns = {"id": domain.ids.tolist(), "expression": [EXPRESSIONS[label] for label in domain.labels]}
    columns["split"] = ["train" if row in set(domain.rows("train")) else "test" for row in range(len(domain.ids))]
    return Domain(write_prepared(folder, folder.name, [domain.faces[:, ::2, ::2]], columns, {}))


def test_unlabelled_faces_of_another_size_are_resized_as_those_of_a_source(
    web: Domain, film: Domain, tmp_path: Path
) -> None:
    small = halved(film, tmp_path / "small")
    method = fitted(Apart(adapt=True, epochs=1), [web], tmp_path, small)
    assert all(batch.unlabelled is not None and batch.unlabelled.shape == batch.images.shape for batch in method.seen)
    unlabelled, size = Unlabelled(small), web.split("train").size
    large = unlabelled.at_size(size)
    assert (unlabelled.size, large.size, large.bytes) == (small.split("train").size, size, len(large) * 3 * 64 * 64)
    both = open_source([small, web], 0).train
    known = both.faces(slice(0, len(small.rows("train"))))
    assert sorted(map(bytes, large.faces().flatten(1).numpy())) == sorted(map(bytes, known.flatten(1).numpy()))


@pytest.mark.parametrize("name", ["coral", "dann", "mmd"])
def test_a_shipped_method_adapts_to_faces_of_another_size(name: str, web: Domain, film: Domain, tmp_path: Path) -> None:
    method = small_method(name, adapt=True, epochs=1, batch_size=16)
    ctx = Context("run", 0, "last", CPU, tmp_path, print, Unlabelled(halved(film, tmp_path / "small")))
    seen, loss = [], method.loss
    method.loss = lambda batch: (seen.append(batch), loss(batch))[1]
    method.fit(open_source([web], 0, 0.1), ctx)
    assert {batch.unlabelled.shape for batch in seen} == {batch.images.shape for batch in seen} == {(16, 3, 64, 64)}
    with torch.no_grad():
        assert torch.isfinite(method.predict(web.split("test").faces(slice(0, 4)))).all()


def test_pseudo_domains_are_clusters_of_what_is_alike() -> None:
    draws = torch.Generator().manual_seed(0)
    blobs = torch.cat([torch.randn(n, 5, generator=draws) + 20 * place for place, n in enumerate((30, 7, 50))])
    truth = torch.arange(3).repeat_interleave(torch.tensor([30, 7, 50]))
    found = clusters(blobs, 3, torch.Generator().manual_seed(1))
    assert len({(a, b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)}) == 3
    assert torch.equal(found, clusters(blobs, 3, torch.Generator().manual_seed(1)))
    with pytest.raises(BenchError, match="cannot be divided into 3 pseudo-domains; lower pseudo_domains"):
        clusters(torch.ones(9, 2), 3, torch.Generator().manual_seed(1))


def test_an_optimiser_that_restarts_has_forgotten_its_moments(
    web: Domain, film: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[float] = []
    step = torch.optim.Adam.step

    def counted(self: Any, *arguments: Any) -> Any:
        result = step(self, *arguments)
        counts.append(next(iter(self.state.values()))["step"].item())
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    fitted(Apart(restart=5), [web, film], tmp_path)
    assert counts[:8] == [1, 2, 3, 4, 5, 1, 2, 3]


def test_one_optimiser_with_two_groups_is_two_optimisers_that_take_turns() -> None:
    """DANN and CDANN rely on this: the optimizer skips a group without gradients, moments and step count included."""
    dann = method_module("dann")
    torch.manual_seed(0)
    network, head, adversary = nn.Linear(6, 4), nn.Linear(4, 7), nn.Linear(4, 3)
    images, labels, domains = torch.randn(12, 6), torch.arange(12) % 7, torch.arange(12) // 4
    start = [p.detach().clone() for p in (*network.parameters(), *head.parameters(), *adversary.parameters())]
    ends = []
    for together in (True, False):
        with torch.no_grad():
            for parameter, value in zip(
                (*network.parameters(), *head.parameters(), *adversary.parameters()), start, strict=True
            ):
                parameter.copy_(value)
        settings: dict[str, Any] = {"lr": 0.01, "betas": (0.5, 0.9), "weight_decay": 0.1}
        mine, other = [*network.parameters(), *head.parameters()], [*adversary.parameters()]
        both = torch.optim.Adam([{"params": mine}, {"params": other}], **settings)
        first, second = torch.optim.Adam(mine, **settings), torch.optim.Adam(other, **settings)
        for place in range(7):
            discriminates = adversary_steps.discriminates(place, 1)
            features = network(images)
            layers = [(adversary.weight, adversary.bias)]
            if together:
                features = features.detach() if discriminates else features
                layers = layers if discriminates else [(layers[0][0].detach(), layers[0][1].detach())]
            loss = dann.discriminator_loss(features, domains, layers, 0.3)["total"]
            if not discriminates:
                loss = sum(adversary_steps.network_terms(head(features), labels, loss, 1.0).values())
            optimizer = both if together else second if discriminates else first
            for each in (both, first, second):
                each.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        ends.append([p.detach().clone() for p in (*mine, *other)])
    for left, right in zip(*ends, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


METHOD = '''"""Counts what it was given."""
from dataclasses import dataclass
import torch
from fergen_bench import Method
@dataclass
class Given(Method):
    adapt: bool = False  # whether it asks for the target
    def fit(self, source, ctx):
        self.count = 0 if ctx.unlabelled is None else len(ctx.unlabelled)
        ctx.epoch_done(1, 1, unlabelled=self.count)
    def predict(self, images):
        return torch.ones(len(images), 7) * (1 + self.count)
'''


def test_an_adapted_run_is_given_its_target_and_its_record_says_so(
    project: Project, bench: Bench, film: Domain, web: Domain
) -> None:
    (project.root / "methods").mkdir()
    (project.root / "methods" / "given.py").write_text(METHOD)
    options = ("--seeds", "0", "--sources", "web", "--jobs", "0", "--no-track")
    result = bench("run", "-m", "given", "--protocol", "adaptation", "--targets", "web,film", *options)
    assert result.code == 0, result.err
    assert "given (adapt=True) on web adapted to film, seed 0" in result.err
    (record,), _ = load_all(project.results / "runs")
    assert record.spec.adaptation_target == "film"
    assert dict(record.spec.fingerprints) == {"web": web.fingerprint, "film": film.fingerprint}
    assert [cell.target for cell in record.cells] == ["web", "film"]
    assert record.history[0]["unlabelled"] == len(film.rows("train"))
    assert bench("run", "-m", "given", *options, "--targets", "web,film").code == 0
    plain = next(entry for entry in load_all(project.results / "runs")[0] if entry.spec.adaptation_target is None)
    assert plain.history[0]["unlabelled"] == 0
    report = bench("report")
    assert report.code == 0
    adapted, plain = "one source with unlabelled target images", "one source, last checkpoint"
    assert report.out.index(adapted) < report.out.index(plain)
