"""Action units move the landmarks of a face."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.synth.geometry import LANDMARKS, landmarks
from fergen_bench.synth.scene import ACTION_UNITS, Scene
from fergen_bench.synth.worlds import compose


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
    positions = [
        landmarks(Scene(columns, scene.draws))[1][0, LANDMARKS.index(landmark), axis] for columns in (still, moved)
    ]
    assert (positions[1] - positions[0]).item() * direction > 0.01
