"""Parity of balanced sampling with ImbalancedDatasetSampler."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fergen_bench.training.sampling import balanced_draw, balanced_weights
from golden import PRECISIONS, Golden


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_imbalanced_sampler_weights_and_draws(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = Golden("imbalanced_sampler", dtype)
    labels, count = golden("labels"), int(golden("num_samples"))
    subsets = {name: golden(f"indices_{name}") for name in golden.names("indices_")}
    for name, indices in {"full": torch.arange(len(labels)), **subsets}.items():
        # The reference orders weights by index, whatever the order of the subset; a split is in that order.
        rows = indices.sort().values
        draws = golden(f"{name}_draws")

        def multinomial(
            weights: Tensor,
            count: int,
            replacement: bool,
            generator: torch.Generator,
            name: str = name,
            draws: Tensor = draws,
        ) -> Tensor:
            assert replacement
            golden.check(f"{name}_weights", weights)
            golden.exact(f"{name}_length", torch.tensor(count))
            return draws

        monkeypatch.setattr(torch, "multinomial", multinomial)
        golden.check(f"{name}_weights", balanced_weights(labels[rows]))
        golden.exact(f"{name}_sampled", indices[balanced_draw(labels[rows], count, torch.Generator())])
