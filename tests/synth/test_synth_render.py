"""Rendered images depend on their scene only, and are the same on every machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from examples import FINGERPRINTS
from PIL import Image

from conftest import ROOT
from fergen_bench.synth import DOMAINS, pretrain
from fergen_bench.synth.render import render
from fergen_bench.synth.worlds import compose


def faces(domain: str, index: Sequence[int], size: int = 64, **overrides: float) -> np.ndarray:
    return render(compose(domain, "test", np.array(index), overrides), size)


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_image_does_not_depend_on_its_batch(domain: str) -> None:
    together = faces(domain, range(20))
    assert (together.shape, together.dtype) == ((20, 64, 64, 3), np.uint8)
    alone = np.concatenate([faces(domain, [row]) for row in range(20)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(faces(domain, [7, 3, 5]), together[[7, 3, 5]])


def test_an_image_of_the_pretraining_does_not_depend_on_its_batch() -> None:
    """Some images of a batch are compressed, sharpened, grey or hidden, and others are not."""
    together = render(pretrain.compose("probe", np.arange(40)), 64)
    alone = np.concatenate([render(pretrain.compose("probe", np.array([row])), 64) for row in range(40)])
    np.testing.assert_array_equal(together, alone)


def test_images_look_like_those_of_version_1() -> None:
    """Version 1 had other last bits, which decide a rounding here and there."""
    stored = np.asarray(Image.open(ROOT / "tests" / "synth" / "synth5.png")).astype(int)
    for row, domain in enumerate(DOMAINS):
        drawn = np.concatenate(list(faces(domain, range(8))), 1).astype(int)
        difference = np.abs(drawn - stored[64 * row : 64 * (row + 1)])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("size", [64, 112, 224])
def test_every_size_shows_the_same_face(size: int) -> None:
    small = torch.from_numpy(faces("web", range(4))).permute(0, 3, 1, 2).float()
    large = torch.from_numpy(faces("web", range(4), size)).permute(0, 3, 1, 2).float()
    shrunk = torch.nn.functional.interpolate(large, (64, 64), mode="area")
    assert (shrunk - small).abs().mean() < 8


# ----------------------------------------------------------------------------------------------------------- processors

FEATURES = [
    name
    for name in np._core._multiarray_umath.__cpu_dispatch__
    if np._core._multiarray_umath.__cpu_features__.get(name)
]
"""Instruction sets beyond the baseline that numpy uses here."""
WIDEST = [name for name in FEATURES if name.startswith(("AVX512", "X86_V4"))]
PROCESSORS = {
    "as it is": {},
    "without vectors": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(FEATURES),
        "OPENBLAS_CORETYPE": "Prescott",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-FMA",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
    },
    "avx2": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(WIDEST),
        "OPENBLAS_CORETYPE": "Haswell",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F",
        "ATEN_CPU_CAPABILITY": "avx2",
    },
    "avx512, more threads": {"ATEN_CPU_CAPABILITY": "avx512", "OPENBLAS_NUM_THREADS": "4"},
}
"""Environments that make numpy, its BLAS, the C library and torch compute as on other processors."""

EXPECTED = {
    "web": "babab3a0bd0a1b4a",
    "grey48": "d70f9ec6c880e365",
    "wild": "2278f7b41ff0709a",
    "film": "58a9a81cd987f26c",
    "scrape": "cc9f0e17389b1260",
}
"""Digests of the faces and factors of `SAMPLE`."""

SAMPLE = """
import hashlib, json
import numpy as np
from fergen_bench.synth.render import render
from fergen_bench.synth.worlds import WORLDS, compose

found = {}
for domain in WORLDS:
    digest = hashlib.sha256()
    for split, size, count in (("train", 64, 16), ("test", 64, 16), ("test", 112, 4), ("test", 224, 2)):
        scene = compose(domain, split, np.arange(count))
        digest.update(render(scene, size).tobytes())
        for name, column in scene.columns.items():
            digest.update(np.asarray(column, "<f8").tobytes())
    found[domain] = digest.hexdigest()[:16]
print(json.dumps(found))
"""

WHOLE = """
import json, sys
from pathlib import Path
from fergen_bench.data.prepared import read_about
from fergen_bench.synth import DOMAINS
from fergen_bench.synth.prepare import prepare

if __name__ == "__main__":
    folders = {domain: Path(sys.argv[1]) / domain for domain in DOMAINS}
    prepare("synth5", folders, 2, lambda domain, done, total: None)
    print(json.dumps({domain: read_about(folder)["fingerprint"] for domain, folder in folders.items()}))
"""


def on_processor(environment: dict[str, str], script: Path, *arguments: str) -> dict[str, str]:
    """Return what a script prints in an environment."""
    python = [sys.executable, str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(python, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("environment", PROCESSORS.values(), ids=PROCESSORS)
def test_faces_and_factors_are_equal_on_every_processor(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(SAMPLE)
    assert on_processor(environment, tmp_path / "sample.py") == EXPECTED


@pytest.mark.slow
@pytest.mark.parametrize("environment", PROCESSORS.values(), ids=PROCESSORS)
def test_the_whole_suite_is_equal_on_every_processor(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "whole.py").write_text(WHOLE)
    assert on_processor(environment, tmp_path / "whole.py", str(tmp_path)) == FINGERPRINTS
