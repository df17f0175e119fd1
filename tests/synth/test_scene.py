"""One factor of a scene changes while all others stay the same."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.synth.worlds import compose


def test_one_factor_changes_and_all_others_stay() -> None:
    base, turned = (compose("web", "test", np.arange(20), overrides) for overrides in (None, {"yaw": 0.5}))
    assert (turned.columns["yaw"] == 0.5).all()
    follow = {"yaw", "gaze_x"}  # the eyes turn back against the head
    for name in set(base.columns) - follow:
        np.testing.assert_array_equal(base.columns[name], turned.columns[name])
    with pytest.raises(KeyError, match="unknown factor 'yawn'"):
        compose("web", "test", np.arange(2), {"yawn": 1.0})
