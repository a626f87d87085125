# SPDX-License-Identifier: Apache-2.0
"""Stacks of perf script, folded, and drawn as a flame graph: width is time, what is above was called."""

import hashlib
from html import escape

WIDTH, ROW, LEAST = 1400, 17, 0.4  # pixels; frames narrower than LEAST are left out


def fold(text):
    """perf script -F comm,tid,ip,sym → {(thread, outermost, ..., innermost): samples}"""
    stacks = {}
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if not lines or not lines[0].strip():
            continue
        # "name with blanks 1234": the last word is the thread's number
        comm = lines[0].strip().rsplit(None, 1)[0]
        frames = [line.strip().split(" ", 1)[1] if " " in line.strip() else "[unknown]" for line in lines[1:]]
        stack = (comm, *(frame.split("+0x")[0] for frame in reversed(frames)))
        stacks[stack] = stacks.get(stack, 0) + 1
    return stacks


def _tree(stacks):
    root = {"n": 0, "children": {}}
    for stack, count in stacks.items():
        node = root
        node["n"] += count
        for name in stack:
            node = node["children"].setdefault(name, {"n": 0, "children": {}})
            node["n"] += count
    return root


def _colour(name):
    number = hashlib.md5(name.encode(), usedforsecurity=False).digest()[0]
    return f"hsl({20 + number % 40},{70 + number % 25}%,{60 + number % 15}%)"


def _boxes(node, depth, left, scale, total):
    for name, child in sorted(node["children"].items()):
        width = child["n"] * scale
        if width >= LEAST:
            yield depth, left, width, name, child["n"] / total
            yield from _boxes(child, depth + 1, left, scale, total)
        left += width


def draw(stacks, title):
    """An SVG document; a frame's share is shown when the pointer rests on it."""
    root = _tree(stacks)
    total = root["n"] or 1
    boxes = list(_boxes(root, 0, 0.0, WIDTH / total, total))
    height = (max((box[0] for box in boxes), default=0) + 3) * ROW
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           'font-family="sans-serif" font-size="11">',
           f'<text x="4" y="13">{escape(title)}: {root["n"]} samples</text>']
    for depth, left, width, name, share in boxes:
        y = height - (depth + 1) * ROW
        label = escape(name[:int(width / 6.5)]) if width > 20 else ""
        out.append(f'<g><title>{escape(name)}: {100 * share:.2f} %</title><rect x="{left:.1f}" y="{y}" '
                   f'width="{width:.1f}" height="{ROW - 1}" fill="{_colour(name)}"/>'
                   f'<text x="{left + 2:.1f}" y="{y + 12}">{label}</text></g>')
    return "\n".join([*out, "</svg>", ""])
