"""Networks with the classifier of their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from fergen_bench.error import BenchError
from fergen_bench.networks.classifier import load_classifier

MODEL, CPU = "test_resnet.r160_in1k", torch.device("cpu")


def save(path: Path, classes: int) -> str:
    """Write random weights with a classifier, and return the name of the network."""
    torch.manual_seed(0)
    torch.save(timm.create_model(MODEL, pretrained=False, num_classes=classes).state_dict(), path)
    return f"timm:{MODEL}//{path}"


def test_the_file_decides_the_number_of_classes(tmp_path: Path) -> None:
    name = save(tmp_path / "eight.pt", 8)
    network, preprocessing, _ = load_classifier(name, CPU)
    whole = timm.create_model(MODEL, pretrained=False, num_classes=8).eval()
    whole.load_state_dict(torch.load(tmp_path / "eight.pt", weights_only=True))
    images = torch.rand(2, 3, preprocessing.size, preprocessing.size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(images), whole(images))
    assert not network.training


def test_weights_without_a_classifier_are_refused(tmp_path: Path) -> None:
    name = save(tmp_path / "none.pt", 0)
    with pytest.raises(BenchError, match=r"none.pt: these weights have no classifier of 2 to 64 classes for timm:test"):
        load_classifier(name, CPU)


def test_a_name_without_a_file_is_refused() -> None:
    with pytest.raises(BenchError, match="name the file of the weights: timm:resnet18//path/to/weights"):
        load_classifier("timm:resnet18", CPU)
