"""Tests of the names of networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench.error import BenchError
from fergen_bench.networks.name import anchored, digest_of, parse_network, weights_digest


@pytest.mark.parametrize(
    "name", ["synth", "synth-trunk/scratch", "timm:resnet18.tv_in1k", "open_clip:ViT-B-32-quickgelu/openai"]
)
def test_a_parsed_name_prints_as_it_was_written(name: str) -> None:
    assert str(parse_network(name, "here")) == name


def test_a_name_with_a_file_has_its_absolute_path(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(b"weights")
    parsed = parse_network(f"timm:resnet18/{path}", "here")
    assert (parsed.family, parsed.model, parsed.path) == ("timm", "resnet18", path)
    assert anchored("timm:resnet18/./own.pth", tmp_path) == f"timm:resnet18/{path}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sinth", "here: no network 'sinth'; did you mean synth"),
        ("synth/openai", "here: 'openai' in 'synth/openai' is not a file; append //path/to/weights or /scratch"),
        ("open_clip:ViT-B-32", "here: 'open_clip:ViT-B-32' lacks weights; write open_clip:ViT-B-32/TAG"),
        ("timm:resnet18//no/file.pth", "here: /no/file.pth does not exist; correct the path"),
    ],
)
def test_an_invalid_name_raises_with_its_place(name: str, message: str) -> None:
    with pytest.raises(BenchError) as caught:
        parse_network(name, "here")
    assert str(caught.value).startswith(message)


def test_an_absolute_path_that_was_meant_from_the_working_directory_is_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    with pytest.raises(BenchError) as caught:
        parse_network("timm:resnet18//mine.safetensors", "here")
    written = "timm:resnet18/./mine.safetensors"
    assert str(caught.value) == f"here: /mine.safetensors does not exist; write {written}"
    assert parse_network(written, "here").path == tmp_path / "mine.safetensors"


def test_digests_distinguish_random_published_and_packaged_weights(tmp_path: Path) -> None:
    assert weights_digest(parse_network("synth/scratch", "here")) == "scratch"
    assert weights_digest(parse_network("timm:resnet18.tv_in1k", "here")) == "published:resnet18.tv_in1k"
    assert len(digest_of("synth", "here")) == 16
    with pytest.raises(BenchError, match="is a folder; name one file"):
        digest_of(str(tmp_path), "here")
