"""The convention of a finished model: the order of its classes, and the pixels that it expects.

A convention is part of the key of a record. An ONNX file carries it in its metadata under `CLASSES_KEY` and
`CONVENTION_KEY`.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from fergen_bench.data.labels import ALIASES, EXPRESSIONS, meant_by
from fergen_bench.datasets.numbering import ORDERS
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.wording import listed

if TYPE_CHECKING:
    import numpy as np

Colour = Literal["rgb", "bgr", "grey"]
Filter = Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]
Range = Literal["0-1", "0-255", "per-image", "uint8"]
Layout = Literal["nchw", "nhwc"]
Output = Literal["logits", "probabilities"]

COLOURS: tuple[Colour, ...] = ("rgb", "bgr", "grey")
FILTERS: tuple[Filter, ...] = ("nearest", "bilinear", "bicubic", "area", "lanczos")
RANGES: tuple[Range, ...] = ("0-1", "0-255", "per-image", "uint8")
LAYOUTS: tuple[Layout, ...] = ("nchw", "nhwc")

CLASSES_KEY = "fergen_bench.classes"
"""Key of the metadata of an ONNX file: the class names as a JSON list, in the order of the outputs."""
CONVENTION_KEY = "fergen_bench.convention"
"""Key of the metadata of an ONNX file: the fields of a `Convention` as a JSON object; absent fields are not stated."""
_FOREIGN_CLASSES = ("classes", "class_names", "names", "labels", "id2label")
"""Keys under which other programs write class names."""

UNUSED = ""
"""The name of an output that belongs to no class."""
LARGEST_SIDE = 2048
"""The largest side in pixels of an input; a larger one is an error, or an attempt to fill the memory."""
_BELOW = 30.0
"""Distance below the lowest logit at which an expression that a model lacks is placed: a probability of zero."""


@dataclass(frozen=True)
class Convention:
    """The order of a model's classes, and the pixels that it expects.

    Attributes:
        classes: Name of each output in order: an expression; another class, such as contempt, which is dropped; or
            UNUSED.
        colour: Order of the colours; `grey` is luma (ITU-R 601), repeated where the model has three channels.
        channels: 1 or 3.
        size: Height and width of the input in pixels; None for the size of the images.
        filter: Filter of resizing, with antialiasing, as in PIL.
        range: Values of black and white before the normalisation. `per-image` subtracts the mean of each image and
            divides by its standard deviation; `uint8` passes the pixels on unchanged.
        mean: Subtracted from the values, one number or one for each channel, in the order of the input's channels.
        deviation: The divisor after that.
        margin: Share of the image's side that is added on each side, by repeating the edge. A negative share is cut
            off.
        layout: Order of the axes of a batch.
        output: Kind of the outputs; None to decide by their values.
    """

    classes: tuple[str, ...] = EXPRESSIONS
    colour: Colour = "rgb"
    channels: int = 3
    size: tuple[int, int] | None = None
    filter: Filter = "bilinear"
    range: Range = "0-1"
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    margin: float = 0.0
    layout: Layout = "nchw"
    output: Output | None = None

    # ------------------------------------------------------------------------------------------------------ the pixels

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Return images as the model expects them.

        Args:
            images: uint8 (B, height, width, 3), RGB.

        Returns:
            float32, or uint8 where `range` is uint8: (B, channels, height, width), or (B, height, width, channels).
        """
        import numpy as np

        pixels = resized(_luma(images) if self.colour == "grey" else images, self.size, self.filter, self.margin)
        if self.colour == "grey":
            pixels = np.repeat(pixels, self.channels, 3)
        elif self.colour == "bgr":
            pixels = pixels[..., ::-1]
        return self.normalised(pixels)

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels uint8 (B, height, width, channels), of the right size and colours, as the model expects them.

        Returns:
            float32, or uint8 where `range` is uint8, in the layout of the model.
        """
        import numpy as np

        if self.range != "uint8":
            values = pixels.astype(np.float32)
            if self.range == "0-1":
                values /= 255.0
            elif self.range == "per-image":
                axes = (1, 2, 3)
                least = 1.0 / math.sqrt(math.prod(pixels.shape[1:]))  # as TensorFlow does for even images
                values -= values.mean(axes, keepdims=True)
                values /= np.maximum(values.std(axes, keepdims=True), least)
            pixels = (values - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2) if self.layout == "nchw" else pixels)

    # ----------------------------------------------------------------------------------------------------- the outputs

    def logits(self, outputs: np.ndarray) -> np.ndarray:
        """Return logits of the seven expressions from the outputs of a model.

        Classes that are not expressions are dropped, which gives the others their shares. An expression that the model
        lacks has a probability of zero.

        Args:
            outputs: (B, classes), logits or probabilities.

        Returns:
            float32 (B, 7), in the order of EXPRESSIONS.
        """
        import numpy as np

        values = outputs.astype(np.float64)
        if (self.output or output_kind(values)) == "probabilities":
            values = np.log(np.maximum(values, 1e-12))
        found = np.repeat(values.min(1, keepdims=True) - _BELOW, len(EXPRESSIONS), 1)
        for place, name in enumerate(EXPRESSIONS):
            if name in self.classes:
                found[:, place] = values[:, self.classes.index(name)]
        return found.astype(np.float32)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The classes that are not expressions."""
        return tuple(name for name in self.classes if name != UNUSED and name not in EXPRESSIONS)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The expressions that the model has no class for."""
        return tuple(name for name in EXPRESSIONS if name not in self.classes)

    # ----------------------------------------------------------------------------------------------------- as a record

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], place: str) -> Convention:
        """Return a convention from the content of `to_json`, checked; absent fields have their defaults.

        Args:
            content: The fields.
            place: The file or key that contains them, for errors.

        Raises:
            BenchError: A field does not exist or has an invalid value.
        """
        return replace(cls(), **checked(content, place))

    def metadata(self) -> dict[str, str]:
        """Return the metadata that an ONNX file of this convention carries."""
        content = self.to_json()
        return {CLASSES_KEY: json.dumps(content.pop("classes")), CONVENTION_KEY: json.dumps(content)}

    def __str__(self) -> str:
        """Return the convention in words, such as "rgb 3 x 224 x 224, bilinear, 0-1, mean 0.5, deviation 0.5, nchw".

        Values whose mean and standard deviation are neither stated nor those of each image have words for it.
        """
        size = "any size" if self.size is None else "{} x {}".format(*self.size)
        parts = [f"{self.colour} {self.channels} x {size}", self.filter, self.range]
        for name, values, neutral in (("mean", self.mean, 0.0), ("deviation", self.deviation, 1.0)):
            if set(values) != {neutral}:
                parts.append(f"{name} {' '.join(f'{value:g}' for value in values)}")
        if len(parts) == 3 and self.range in {"0-1", "0-255"}:
            parts.append("no mean is subtracted")
        parts += [f"margin {self.margin:g}"] if self.margin else []
        return ", ".join([*parts, self.layout])

    @property
    def whole(self) -> str:
        """The convention in words, with the order of the classes."""
        return f"{self}; classes {','.join(name or '-' for name in self.classes)}"


def output_kind(outputs: np.ndarray) -> Output:
    """Return `probabilities` for outputs (B, classes) that are not negative and whose rows sum to 1, else `logits`."""
    import numpy as np

    sums = outputs.sum(1)
    return "probabilities" if (outputs >= 0).all() and (np.abs(sums - 1) < 1e-3).all() else "logits"


# ----------------------------------------------------------------------------------------------------- checking fields


def checked(content: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return some fields of a convention, checked, with lists as tuples.

    Args:
        content: Values by the names of fields.
        place: The file, key or option that contains them, for errors.

    Raises:
        BenchError: A field does not exist or has an invalid value.
    """
    known = [one.name for one in fields(Convention)]
    found: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            raise BenchError(f"{place}: {name!r} is not part of a convention{did_you_mean(name, known)}")
        found[name] = _checked_field(name, value, place)
    channels = found.get("channels", 3)
    for name in ("mean", "deviation"):
        if len(found.get(name, (0.0,))) not in {1, channels, 3}:
            raise BenchError(f"{place}: {name}: {list(found[name])} must be one number, or one for each channel")
    return found


def _checked_field(name: str, value: Any, place: str) -> Any:
    choices: Mapping[str, tuple[str, ...]] = {"colour": COLOURS, "filter": FILTERS, "range": RANGES, "layout": LAYOUTS}
    where = f"{place}: {name}"
    if name == "classes":
        return parse_classes(value, where)
    if name in choices:
        if value not in choices[name]:
            raise BenchError(f"{where}: {value!r} is not one of {listed(choices[name])}")
        return value
    if name == "channels":
        if value not in (1, 3) or isinstance(value, bool):
            raise BenchError(f"{where}: {value!r} is not 1 or 3")
        return value
    if name == "size":
        return _size(value, where)
    if name == "output":
        if value not in (None, "logits", "probabilities"):
            raise BenchError(f"{where}: {value!r} is not logits or probabilities")
        return value
    if name == "margin":
        if not _is_number(value) or not -0.45 <= value <= 2:
            raise BenchError(f"{where}: {value!r} is not a share from -0.45 to 2")
        return float(value)
    numbers = (value,) if _is_number(value) else value
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or not all(map(_is_number, numbers)):
        raise BenchError(f"{where}: {value!r} is not a number for each channel")
    if name == "deviation" and not all(number > 0 for number in numbers):
        raise BenchError(f"{where}: {value!r} must be above 0")
    return tuple(map(float, numbers))


def _size(value: Any, where: str) -> tuple[int, int] | None:
    sides = (value, value) if isinstance(value, int) else value
    if value is None:
        return None
    if (
        not isinstance(sides, Sequence)
        or len(sides) != 2
        or any(type(side) is not int or not 1 <= side <= LARGEST_SIDE for side in sides)
    ):
        raise BenchError(f"{where}: {value!r} is not a side in pixels, or height and width, up to {LARGEST_SIDE:,}")
    return sides[0], sides[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def parse_classes(value: str | Iterable[str], place: str) -> tuple[str, ...]:
    """Return class names in the order of a model's outputs.

    Args:
        value: Names, or one text with commas between them, or the name of a known order, such as fer2013. Expressions
            may have their usual spellings; "-" marks an output that belongs to no class.
        place: The option, key or file that contains them, for errors.

    Raises:
        BenchError: A name occurs twice, is similar to an expression without a class, or fewer than two are expressions.
    """
    if isinstance(value, str):
        if value.strip().lower() in ORDERS:
            return ORDERS[value.strip().lower()]
        value = value.split(",")
    names = list(value) if isinstance(value, Iterable) else [value]
    if not all(isinstance(name, str) for name in names):
        raise BenchError(f"{place}: {names!r} are not the names of classes")
    plain = [name.strip().lower() for name in names]
    classes = tuple(UNUSED if name in {"-", ""} else ALIASES.get(name, name) for name in plain)
    if twice := [name for name in classes if name != UNUSED and classes.count(name) > 1]:
        raise BenchError(f"{place}: {twice[0]} occurs twice; name each class once, in the order of the outputs")
    for name in set(classes) - {UNUSED, *EXPRESSIONS}:
        if meant := _misspelt(name, classes):
            raise BenchError(
                f"{place}: {name!r} is not an expression; did you mean {meant}? Write - for an output that "
                f"belongs to no class."
            )
    if sum(name in EXPRESSIONS for name in classes) < 2:
        orders = f"or a known order: {listed(ORDERS)}"
        given = ", ".join(map(repr, plain))[:120]
        raise BenchError(
            f"{place}: fewer than two of {given} are expressions; name the classes in the order of the outputs, such "
            f"as anger,disgust,fear,happiness,sadness,surprise,neutral, {orders}"
        )
    return classes


def _misspelt(name: str, classes: Iterable[str]) -> str | None:
    """Return the expression without a class whose spelling is similar to a name, or None."""
    free = {alias: meant for alias, meant in ALIASES.items() if meant not in classes and len(alias) > 3}
    return meant_by(name, free, 0.75)


def stated_by_metadata(metadata: Mapping[str, str], outputs: int | None, place: str) -> dict[str, Any]:
    """Return the fields of a convention that the metadata of an ONNX file states.

    Args:
        metadata: Key → text.
        outputs: Number of the model's outputs, if known.
        place: The file, for errors.

    Raises:
        BenchError: The metadata of fergen-bench are invalid. Those of other programs are ignored where unclear.
    """
    stated: dict[str, Any] = {}
    for key in (CONVENTION_KEY, CLASSES_KEY):
        if key in metadata:
            content = _parsed(metadata[key])
            if not isinstance(content, dict if key == CONVENTION_KEY else list):
                raise BenchError(f"{place}: the metadata {key} are not JSON as fergen-bench writes it")
            given: dict[str, Any] = content if isinstance(content, dict) else {"classes": content}
            stated |= checked(given, f"{place}: metadata {key}")
    for key in () if "classes" in stated else _FOREIGN_CLASSES:
        names = _names(_parsed(metadata.get(key, "")), metadata.get(key, ""))
        if names is None or (outputs is not None and len(names) != outputs):
            continue
        try:
            classes = parse_classes(names, f"{place}: metadata {key}")
        except BenchError:
            continue
        if len(EXPRESSIONS) - len(set(EXPRESSIONS) - set(classes)) >= 5:
            return {**stated, "classes": classes}
    return stated


def _parsed(text: str) -> Any:
    """Return the content of a JSON text or of a Python literal; None where it is neither."""
    if len(text) > 10_000:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _names(content: Any, text: str) -> list[str] | None:
    """Return class names from a list, from a mapping of numbers to names, or from a text with commas."""
    if isinstance(content, dict):
        try:
            content = [content[key] for key in sorted(content, key=int)]
        except (ValueError, TypeError):
            return None
    if content is None and "," in text:
        content = text.split(",")
    if isinstance(content, list | tuple) and all(isinstance(name, str) for name in content):
        return list(content)
    return None


# -------------------------------------------------------------------------------------------------------------- pixels


def _luma(images: np.ndarray) -> np.ndarray:
    """Return the grey levels of images uint8 (B, height, width, 3) as (B, height, width, 1), as PIL computes them."""
    import numpy as np

    weights = np.array([19595, 38470, 7471], np.uint32)
    return ((images.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]


def resized(images: np.ndarray, size: tuple[int, int] | None, filter: Filter, margin: float = 0.0) -> np.ndarray:
    """Return images uint8 (B, height, width, 1 or 3) with a margin, at another height and width.

    Args:
        images: The images.
        size: Height and width; None to keep those of the images.
        filter: The filter, as in PIL.
        margin: Share of the side that is added on each side, or cut off where it is negative.
    """
    import numpy as np
    from PIL import Image

    if margin:
        along = [round(margin * side) for side in images.shape[1:3]]
        if margin > 0:
            images = np.pad(images, ((0, 0), (along[0],) * 2, (along[1],) * 2, (0, 0)), mode="edge")
        else:
            top, left = (-part for part in along)
            images = images[:, top : images.shape[1] - top, left : images.shape[2] - left]
    if size is None or images.shape[1:3] == size:
        return images
    kinds = {
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "area": Image.Resampling.BOX,
        "lanczos": Image.Resampling.LANCZOS,
    }
    out = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for place, image in enumerate(images):
        picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))
        out[place] = np.asarray(picture.resize((size[1], size[0]), kinds[filter])).reshape(out.shape[1:])
    return out
