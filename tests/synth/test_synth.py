"""The embedded suite: faces that depend on their names only, honest labels, and networks that never saw the exam."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from conftest import ROOT
from fergen_bench import synth
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import counters, seed_of
from fergen_bench.synth import DOMAINS, WEIGHTS, pretrain, worlds
from fergen_bench.synth.geometry import LANDMARKS, landmarks
from fergen_bench.synth.render import render
from fergen_bench.synth.scene import ACTION_UNITS, Scene
from fergen_bench.synth.worlds import WORLDS, compose


def faces(domain: str, index: Sequence[int], size: int = 64, **overrides: float) -> torch.Tensor:
    return render(compose(domain, "test", np.array(index), overrides), size)


RENDERING = """
import sys
from pathlib import Path
from fergen_bench.synth.prepare import prepare
prepare("synth5", {"web": Path(sys.argv[1])}, 2, lambda domain, done, total: print(done, flush=True))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_rendering_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RENDERING, str(tmp_path / "web")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.kill()
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 20
    alive = children
    while alive and time.monotonic() < until:
        time.sleep(0.1)
        alive = [child for child in children if is_alive(child)]
    for child in alive:
        os.kill(int(child), signal.SIGKILL)
    assert alive == []
    assert not (tmp_path / "web").exists()


def is_alive(process: str) -> bool:
    """Whether there is a process of this number that has not ended."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())  # empty where it only waits to be noticed
    except OSError:
        return False


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_face_does_not_depend_on_its_batch_or_on_threads(domain: str) -> None:
    together = faces(domain, range(12))
    alone = torch.cat([faces(domain, [row]) for row in range(12)])
    assert torch.equal(together, alone)
    assert torch.equal(faces(domain, [7, 3, 5]), together[[7, 3, 5]])
    torch.set_num_threads(2)
    try:
        assert torch.equal(faces(domain, range(12)), together)
    finally:
        torch.set_num_threads(1)


def test_a_face_of_the_pretraining_does_not_depend_on_its_batch() -> None:
    """Some are compressed and some are not: neighbours must not matter."""
    together = render(pretrain.compose("probe", np.arange(24)), 64)
    alone = torch.cat([render(pretrain.compose("probe", np.array([row])), 64) for row in range(24)])
    assert torch.equal(together, alone)


def test_the_faces_are_those_of_every_other_machine() -> None:
    """Another processor may round otherwise: at most one grey level, on less than a thousandth of the values."""
    stored = np.asarray(Image.open(ROOT / "tests" / "data" / "synth5.png")).astype(int)
    for row, domain in enumerate(DOMAINS):
        drawn = np.concatenate(list(faces(domain, range(8)).permute(0, 2, 3, 1).numpy()), 1).astype(int)
        difference = np.abs(drawn - stored[64 * row : 64 * (row + 1)])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("size", [64, 112, 224])
def test_any_size_shows_the_same_face(size: int) -> None:
    small = faces("web", range(4)).float()
    large = faces("web", range(4), size).float()
    shrunk = torch.nn.functional.interpolate(large, (64, 64), mode="area")
    assert (shrunk - small).abs().mean() < 8


def test_one_factor_can_be_moved_with_everything_else_fixed() -> None:
    base, turned = (compose("web", "test", np.arange(20), overrides) for overrides in (None, {"yaw": 0.5}))
    assert (turned.columns["yaw"] == 0.5).all()
    follow = {"yaw", "gaze_x"}  # the eyes turn back against the head
    for name in set(base.columns) - follow:
        np.testing.assert_array_equal(base.columns[name], turned.columns[name])
    with pytest.raises(KeyError, match="no factor 'yawn'"):
        compose("web", "test", np.arange(2), {"yawn": 1.0})


def test_labels_of_test_are_what_is_shown_and_those_of_train_are_what_was_noted() -> None:
    for name, world in WORLDS.items():
        test = compose(name, "test", np.arange(world.test)).columns
        np.testing.assert_array_equal(test["label"], test["expression"])
        train = compose(name, "train", np.arange(world.train)).columns
        wrong = (train["label"] != train["expression"]).mean()
        assert wrong == pytest.approx(world.label_noise or 0.025, abs=0.015), name
        share = np.bincount(train["expression"], minlength=7) / world.train
        np.testing.assert_allclose(share, np.array(world.prior) / sum(world.prior), atol=0.025)
        assert share.max() / share.min() > 2 or name == "wild"


def test_votes_are_ten_and_the_label_has_the_most() -> None:
    columns = compose("grey48", "train", np.arange(500)).columns
    votes = np.stack([columns[f"votes_{name}"] for name in EXPRESSIONS], 1)
    assert (votes.sum(1) == worlds.VOTERS).all()
    assert (votes[np.arange(500), columns["label"]] == votes.max(1)).all()


def test_every_generating_factor_is_kept_beside_the_label(web: Domain) -> None:
    with (web.folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    scene = compose("web", "train", np.arange(3))
    kept = set(rows[0])
    assert set(scene.columns) - {"label", "expression"} <= kept
    assert {"id", "expression", "split", "shown", "au12", "yaw", "light_x", "skin_tone", "intensity", "form"} <= kept
    for row, value in zip(rows, scene.columns["yaw"], strict=False):
        assert float(row["yaw"]) == pytest.approx(value, rel=1e-3)


def test_the_tiny_suite_is_the_first_tenth(web: Domain) -> None:
    assert len(web.rows("train")) == WORLDS["web"].train // 10
    drawn = render(compose("web", "train", np.arange(5)), 64)
    assert torch.equal(web.split("train").faces(slice(0, 5)), drawn)


def test_domains_differ_as_the_datasets_they_stand_for() -> None:
    shown = {name: faces(name, range(64)).float() for name in DOMAINS}
    brightness = {name: images.mean().item() for name, images in shown.items()}
    assert brightness["film"] < 0.7 * min(brightness[name] for name in DOMAINS if name != "film")
    colour = {name: (images.amax(1) - images.amin(1)).mean().item() for name, images in shown.items()}
    assert colour["grey48"] < 1 < colour["scrape"] < colour["web"]


@pytest.mark.parametrize(
    ("unit", "landmark", "axis", "direction"),
    [
        (1, "left brow inner", 1, 1),
        (2, "right brow outer", 1, 1),
        (4, "left brow inner", 1, -1),
        (5, "left lid upper", 1, 1),
        (7, "right lid lower", 1, 1),
        (12, "right mouth corner", 1, 1),
        (12, "right mouth corner", 0, 1),
        (15, "left mouth corner", 1, -1),
        (20, "left mouth corner", 0, -1),
        (26, "chin", 1, -1),
        (43, "left lid upper", 1, -1),
    ],
)
def test_action_units_move_their_landmarks(unit: int, landmark: str, axis: int, direction: int) -> None:
    scene = compose("web", "test", np.arange(1))
    still = {**scene.columns, **{f"au{u}": np.zeros(1) for u in ACTION_UNITS}, "yaw": np.zeros(1), "roll": np.zeros(1)}
    moved = {**still, f"au{unit}": np.ones(1)}
    places = [
        landmarks(Scene(columns, scene.draws))[1][0, LANDMARKS.index(landmark), axis] for columns in (still, moved)
    ]
    assert (places[1] - places[0]).item() * direction > 0.01


# ---------------------------------------------------------------------------------------------- the pretrained networks


def test_the_packaged_networks_are_small_and_say_where_they_come_from() -> None:
    files = sorted(WEIGHTS.glob("*.safetensors"))
    assert [path.name for path in files] == ["encoder.safetensors", "trunk.safetensors"]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    for path in files:
        with safe_open(path, "pt") as file:
            assert {"world", "seed", "epoch", "probe_r2"} <= set(file.metadata())
            assert all(file.get_tensor(name).dtype == torch.float16 for name in file.keys())  # noqa: SIM118
        assert (WEIGHTS / f"{path.stem}.log").is_file()
    assert (WEIGHTS / "CARD.md").is_file()


def test_no_face_of_the_suite_is_in_the_pretraining() -> None:
    exam = {
        int(counter)
        for name, world in WORLDS.items()
        for split, count in (("train", world.train), ("test", world.test))
        for counter in counters(np.arange(count), seed_of(*worlds.stream(name, split)))
    }
    assert len(exam) == 20_000
    for purpose, count in {"encoder": 96_000, "trunk": 48_000, "probe": 8_000}.items():
        assert pretrain.RECIPES[purpose].faces == count if purpose in pretrain.RECIPES else True
        seen = counters(np.arange(count), seed_of(*pretrain.stream(purpose)))
        assert not exam & set(seen.tolist())


def test_the_pretraining_never_meets_an_expression_label_or_a_domain() -> None:
    """It imports neither the labels nor the five domains, and what it regresses holds no action unit."""
    text = (ROOT / "fergen_bench" / "synth" / "pretrain.py").read_text()
    for word in ("EXPRESSIONS", "worlds", "WORLDS", "sample_expression", "FORMS"):
        assert word not in text, word
    entries = {*pretrain._NUMBERS, *pretrain._POSE}
    assert not {entry for entry in entries if entry.startswith("au")}
    scene = pretrain.compose("probe", np.arange(4))
    assert not {"label", "expression", "form", "intensity"} & set(scene.columns)
    caption, weights = pretrain.face_caption(scene)
    assert caption.shape == (4, 2 * 3 * len(LANDMARKS) + len(pretrain._POSE) + pretrain.IDENTITY_ENTRIES)
    assert weights.shape == caption.shape[1:]


def test_an_identity_caption_does_not_know_the_expression() -> None:
    scene = pretrain.compose("probe", np.arange(4))
    columns = {**scene.columns, **{f"au{unit}": np.zeros(4) for unit in ACTION_UNITS}}
    np.testing.assert_array_equal(pretrain.identity_caption(scene.columns), pretrain.identity_caption(columns))


def test_the_pretraining_world_covers_the_ranges_of_the_five_domains() -> None:
    """As the card says: hardly any face of the suite is outside the support of the pretraining."""
    wide = pretrain.compose("probe", np.arange(4000)).columns
    camera = ["exposure", "blur_x", "blur_y", "grain", "noise", "jpeg", "gamma", "contrast", "lift", "grey"]
    place = ["scale", "shift_x", "shift_y", "roll", "yaw", "pitch", "ambient", "diffuse", "light_x", "light_y"]
    for name in DOMAINS:
        narrow = compose(name, "test", np.arange(1000)).columns
        for factor in [*place, *camera, "resolution", "vignette", "skin_tone", "age"]:
            low, high = np.quantile(narrow[factor], [0.01, 0.99])
            assert wide[factor].min() <= low + 1e-3, (name, factor)
            assert wide[factor].max() >= high - 1e-3, (name, factor)


def test_the_loss_of_the_pretraining_goes_down() -> None:
    torch.manual_seed(0)
    scene = pretrain.compose("probe", np.arange(64))
    images = pretrain.normalise(render(scene, 64))
    captions = torch.from_numpy(pretrain.identity_caption(scene.columns)).float()
    captions = (captions - captions.mean(0)) / captions.std(0).clamp_min(1e-6)
    model = pretrain.Captioned(pretrain.Trunk(), 512, captions.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    totals = []
    for _ in range(8):
        contrast, regression = model.losses(
            pretrain.jitter(images.clone(), torch.Generator().manual_seed(0)), captions, torch.ones(24)
        )
        optimizer.zero_grad()
        (contrast + 8 * regression).backward()
        optimizer.step()
        totals.append((contrast + 8 * regression).item())
    assert totals[-1] < 0.8 * totals[0]


def test_the_probe_reads_what_is_there_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    units = generator.normal(size=(600, 17))
    mixed = units @ generator.normal(size=(17, 32))
    assert pretrain.action_unit_probe(mixed, units, 400).min() > 0.95
    assert pretrain.action_unit_probe(generator.normal(size=(600, 32)), units, 400).max() < 0.1


@pytest.mark.slow
def test_the_encoder_shows_action_units_on_renders_it_never_saw() -> None:
    from safetensors.torch import load_file

    from fergen_bench.synth.networks import FaceEncoder

    images, _, units = pretrain.render_pool("probe", 8000)
    encoder = FaceEncoder()
    weights = {name: tensor.float() for name, tensor in load_file(WEIGHTS / "encoder.safetensors").items()}
    encoder.load_state_dict(weights, strict=False)
    r2 = pretrain.action_unit_probe(pretrain.features_of(encoder, images), units, 6000)
    with safe_open(WEIGHTS / "encoder.safetensors", "pt") as file:
        assert r2.mean() == pytest.approx(float(file.metadata()["probe_r2"]), abs=0.01)
    assert r2.mean() >= 0.10


@pytest.mark.slow
def test_labels_follow_from_action_units_in_every_pair_of_domains() -> None:
    """No concept shift: who sees the true action units is at least 94 % right, from any domain to any other."""
    from sklearn.neural_network import MLPClassifier

    def table(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        columns = compose(name, split, np.arange(getattr(WORLDS[name], split))).columns
        return np.stack([columns[f"au{unit}"] for unit in ACTION_UNITS], 1), columns["expression"]

    tests = {name: table(name, "test") for name in DOMAINS}
    for name in DOMAINS:
        oracle = MLPClassifier((64,), alpha=1e-3, learning_rate_init=5e-3, max_iter=60, random_state=0)
        oracle.fit(*table(name, "train"))
        scores = {target: oracle.score(*test) for target, test in tests.items()}
        assert min(scores.values()) >= 0.94, (name, scores)


def test_sizes_and_shares_of_the_suites() -> None:
    assert [synth.size_of(name) for name in synth.SUITES] == [64, 112, 224, 64]
    assert [synth.share_of(name) for name in synth.SUITES] == [1, 1, 1, 10]
    assert all(suite.synthetic for suite in synth.SUITES.values())
