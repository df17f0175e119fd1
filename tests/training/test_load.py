"""Method files become instances of their class, or one sentence with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench.error import BenchError
from fergen_bench.training.load import load_method

GOOD = (
    "from dataclasses import dataclass\nfrom fergen_bench import Method\n@dataclass\nclass Mine(Method):\n"
    "    a: int = 1\n    def fit(self, source, ctx): ...\n    def predict(self, images): ...\n"
)
ONLINE = (
    "from dataclasses import dataclass\nfrom fergen_bench import OnlineMethod\n@dataclass\nclass Mine(OnlineMethod):\n"
    "    def start(self, base, ctx): ...\n    def predict(self, images): ...\n"
)
DECLARED = GOOD.replace("    a: int = 1\n", "    online = True\n    stream: str = ''\n    stream_batch: int = 64\n")


def test_an_instance_has_the_given_parameters(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    assert load_method(tmp_path / "mine.py", "Mine", {"a": 5}).a == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "parameters", "message"),
    [
        ("import no_such_module\n", {}, r"mine\.py:1: this method file fails to load: ModuleNotFoundError"),
        ("x = 1\ny = 1 / 0\n", {}, r"mine\.py:2: this method file fails to load: ZeroDivisionError"),
        ("class Mine: ...\n", {}, r"mine\.py: Mine is not a Method; derive it from fergen_bench\.Method"),
        (GOOD, {}, r"mine\.py: Mine must be a dataclass with its fields written out"),
        (GOOD.replace("def fit", "def fits"), {}, r"Mine lacks the method fit; write it, as the base class Method"),
        (ONLINE, {}, r"mine\.py: Mine lacks the method reset; write it, as the base class OnlineMethod requires"),
        (
            ONLINE.replace("def start", "def begin").replace("def predict", "def answer"),
            {},
            r"Mine lacks the methods predict, reset and start; write them, as the base class OnlineMethod requires",
        ),
        (DECLARED, {}, r"mine\.py: Mine is online and lacks the method reset, which forgets a target; derive it from"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named(
    tmp_path: Path, text: str, parameters: dict[str, int], message: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(BenchError, match=message):
        load_method(tmp_path / "mine.py", "Mine", parameters)
