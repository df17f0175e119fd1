"""Draw the rooms of fergen_bench and the imports between them into docs/pictures/architecture.svg.

python docs/architecture.py

A room is a folder or a single module of the package (`__main__`, which only calls `cli`, is left out). A box holds the
room's name and the first line of its docstring. A room stands below every room that imports it. An arrow goes from a
room to a room that it imports. Arrows that follow from other arrows are left out: if `cli` imports `records` and
`records` imports `data`, no arrow leads from `cli` to `data`.
"""

from __future__ import annotations

import ast
import re
import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fergen_bench"
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 280, 62, 44, 46, 16


def modules(package: Path = PACKAGE) -> dict[str, list[Path]]:
    """Return the files of each room, by the room's name. Methods that a wheel packs are not among them."""
    found: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        if inside.parts[0] != "__init__.py" and "shipped" not in inside.parts:
            found.setdefault(inside.parts[0].removesuffix(".py"), []).append(path)
    return found


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """Return the full names that a file imports, without imports for type checkers.

    Args:
        path: A Python file.
        top_level_only: Leave out imports inside functions.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_imports() -> dict[str, set[str]]:
    """Return the rooms that each room imports, wherever in its files the import stands."""
    rooms = {room: paths for room, paths in modules().items() if room != "__main__"}
    arrows: dict[str, set[str]] = {}
    for room, paths in rooms.items():
        parts = [name.split(".") for path in paths for name in imported(path)]
        targets = {part[1] for part in parts if part[0] == "fergen_bench" and len(part) > 1}
        arrows[room] = (targets & set(rooms)) - {room}
    return arrows


def reduced(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the arrows that do not follow from others (the transitive reduction of a graph without cycles)."""
    reach: dict[str, set[str]] = {}

    def reachable(room: str) -> set[str]:
        if room not in reach:
            reach[room] = arrows[room].union(*(reachable(target) for target in arrows[room]))
        return reach[room]

    return {
        room: {target for target in targets if not any(target in reachable(other) for other in targets - {target})}
        for room, targets in arrows.items()
    }


def floors(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the rooms by height, top first: a room is one floor above the highest room that it imports."""
    height: dict[str, int] = {}

    def place(room: str) -> int:
        if room not in height:
            height[room] = 1 + max((place(target) for target in arrows[room]), default=-1)
        return height[room]

    for room in arrows:
        place(room)
    return [
        sorted(room for room in arrows if height[room] == floor) for floor in reversed(range(max(height.values()) + 1))
    ]


def summary(room: str) -> str:
    """Return the first sentence of a room's docstring."""
    path = PACKAGE / room / "__init__.py"
    text = ast.get_docstring(
        ast.parse((path if path.is_file() else PACKAGE / f"{room}.py").read_text(encoding="utf-8"))
    )
    return " ".join((text or "").split("\n\n")[0].split()).split(". ")[0].rstrip(".")


def svg() -> str:
    """Return the picture as SVG text."""
    arrows = room_imports()
    kept, rows = reduced(arrows), floors(arrows)
    widest = max(len(row) for row in rows)
    across = widest * WIDTH + (widest + 1) * GAP_X + 2 * MARGIN
    down = len(rows) * HEIGHT + (len(rows) - 1) * GAP_Y + 2 * MARGIN
    corners: dict[str, tuple[float, float]] = {}
    for floor, row in enumerate(rows):
        left = (across - len(row) * WIDTH - (len(row) - 1) * GAP_X) / 2
        for index, room in enumerate(row):
            corners[room] = left + index * (WIDTH + GAP_X), MARGIN + floor * (HEIGHT + GAP_Y)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across:g} {down:g}" font-family="sans-serif">',
        "<title>The rooms of fergen_bench and their imports</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#57606a"/></marker></defs>',
        f'<rect width="{across:g}" height="{down:g}" fill="#ffffff"/>',
        *(arrow(room, target, rows, corners) for room in sorted(kept) for target in sorted(kept[room])),
        *(box(room, *corners[room]) for row in rows for room in row),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def drawn(text: str) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the rooms and the arrows that a picture shows."""
    rooms = set(re.findall(r'data-room="([^"]+)"', text))
    return rooms, set(re.findall(r'data-from="([^"]+)" data-to="([^"]+)"', text))


def arrow(room: str, target: str, rows: list[list[str]], corners: dict[str, tuple[float, float]]) -> str:
    """Return one arrow, led around the boxes of the floors that it passes."""
    floor = {name: index for index, row in enumerate(rows) for name in row}
    (x0, y0), (x1, y1) = corners[room], corners[target]
    x0, y0, x1 = x0 + WIDTH / 2, y0 + HEIGHT, x1 + WIDTH / 2
    passed = [corners[name][0] for row in rows[floor[room] + 1 : floor[target]] for name in row]
    bend = (y1 - y0) / 2
    path = f"M{x0:g},{y0:g} C{x0:g},{y0 + bend:g} {x1:g},{y1 - bend:g} {x1:g},{y1:g}"
    if passed:
        right = x0 + x1 >= min(passed) + max(passed) + WIDTH
        lane = max(passed) + WIDTH + GAP_X / 2 if right else min(passed) - GAP_X / 2
        x0, x1 = (x + (WIDTH / 4 if right else -WIDTH / 4) for x in (x0, x1))
        path = (
            f"M{x0:g},{y0:g} C{x0:g},{y0 + GAP_Y:g} {lane:g},{y0:g} {lane:g},{y0 + GAP_Y:g} "
            f"L{lane:g},{y1 - GAP_Y:g} C{lane:g},{y1:g} {x1:g},{y1 - GAP_Y:g} {x1:g},{y1:g}"
        )
    return (
        f'<path data-from="{room}" data-to="{target}" d="{path}" fill="none" stroke="#57606a" '
        'stroke-width="1.5" marker-end="url(#tip)"/>'
    )


def box(room: str, x: float, y: float) -> str:
    """Return the box of a room: its name, and up to two lines of its docstring."""
    lines = textwrap.wrap(summary(room), 46, max_lines=2, placeholder=" …")
    about = "".join(
        f'<text x="{x + 10:g}" y="{y + 37 + 14 * index:g}" font-size="11.5" fill="#424a53">{escape(line)}</text>'
        for index, line in enumerate(lines)
    )
    return (
        f'<g data-room="{room}"><rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#f6f8fa" '
        f'stroke="#8c959f"/><text x="{x + 10:g}" y="{y + 20:g}" font-size="14" font-weight="bold" fill="#1f2328">'
        f"{room}</text>{about}</g>"
    )


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")
