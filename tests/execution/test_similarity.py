"""Near-duplicates by the frozen features of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fergen_bench.data.domain import Domain
from fergen_bench.execution.similarity import feature_similarity
from fergen_bench.networks.loading import load_network
from fergen_bench.progress import silent

CPU = torch.device("cpu")


def test_the_audits_similarity_is_the_cosine_of_the_features_of_whatever_part(
    web: Domain, film: Domain, tmp_path: Path
) -> None:
    measured = feature_similarity("synth", 0.9, tmp_path, silent)
    rows = [int(domain.rows(part)[2]) for domain, part in ((web, "train"), (film, "test"), (web, "test"))]
    pairs = np.array([[(0, rows[0]), (1, rows[1])], [(0, rows[2]), (0, rows[2])], [(1, rows[1]), (0, rows[2])]])
    network = load_network("synth", CPU).eval()
    with torch.no_grad():
        faces = [
            torch.from_numpy(np.array(d.faces[r])).permute(2, 0, 1)[None]
            for d, r in zip((web, film, web), rows, strict=True)
        ]
        a, b, c = (network(face) for face in faces)
    cosine = torch.nn.functional.cosine_similarity
    expected = [cosine(a, b).item(), 1.0, cosine(b, c).item()]
    np.testing.assert_allclose(measured.similarity([web, film], pairs), expected, atol=1e-4)
    assert measured.limit == 0.9
    assert measured.name.startswith("cosine of the features of synth ")
