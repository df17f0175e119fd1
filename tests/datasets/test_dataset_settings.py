"""The keys of a table [domains.NAME]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fergen_bench.datasets.settings import DomainSettings


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("subject", "no group", "the pattern needs exactly one (group)"),
        ("subject", "(a)(b)", "the pattern needs exactly one (group)"),
        ("subject", "(", "this is not a regular expression"),
        ("labels", {"joy": "joyful"}, "joy is mapped to 'joyful', which is not one of surprise, fear"),
        ("size", 8, "greater than or equal to 16"),
        ("test_share", 1.0, "less than 1"),
        ("margin", "0.1", "valid number"),
        ("sise", 48, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_value_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        DomainSettings(path=Path("faces"), **{key: value})
    assert message in str(error.value)


def test_a_label_may_be_left_out_and_a_path_may_be_text() -> None:
    settings = DomainSettings.model_validate({"path": "faces", "labels": {"joy": "happiness", "contempt": ""}})
    assert settings.path == Path("faces")
    assert settings.labels["contempt"] == ""
