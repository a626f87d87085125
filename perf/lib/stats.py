# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads, ratios and tables of what was measured. Pure: nothing here reads a clock or a file."""

import fnmatch
import statistics


def median(values):
    """The median of the values that are there, or None if none is."""
    present = [value for value in values if value is not None]
    return statistics.median(present) if present else None


def spread(values):
    """(least, greatest) of the values that are there, or None."""
    present = [value for value in values if value is not None]
    return (min(present), max(present)) if present else None


def ratio(ours, theirs):
    """ours / theirs, or None where that says nothing."""
    if ours is None or not theirs:
        return None
    return ours / theirs


def number(value):
    """Three figures, as a reader wants them; an empty cell for None."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 or not value else f"{value:.3f}"


def markdown(head, rows):
    """A table whose columns are padded, so that it reads well as text too; the first two are left-aligned."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]

    def line(row):
        texts = [cell.ljust(width) if i < 2 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        return "| " + " | ".join(texts) + " |"

    rule = ["-" * width if i < 2 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([line(cells[0]), "| " + " | ".join(rule) + " |", *map(line, cells[1:])])


def select(names, patterns):
    """The names that match one of the patterns, in their own order; all if there is no pattern."""
    return [name for name in names
            if not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


class Summary:
    """The runs of one case by one kind, as medians. runs: dicts as measure.run_once() returns them."""

    FIELDS = ("rate", "cpu", "p50_us", "p99_us", "retrans_guest", "retrans_host", "longest_gap_ms",
              "client_cpu", "syscalls")

    def __init__(self, runs):
        self.runs = runs
        self.errors = [run["error"] for run in runs if run.get("error")]
        self.values = {field: median([run.get(field) for run in runs]) for field in self.FIELDS}
        self.range = spread([run.get("rate") for run in runs])

    @property
    def failed(self):
        return bool(self.errors) or not self.runs

    def __getitem__(self, field):
        return self.values[field]


def compare(ours, theirs):
    """What we are as a multiple of another kind: {"rate", "cpu", "p50_us"}, None where not measured.

    Refuses runs that failed: ValueError says which."""
    for summary in (ours, theirs):
        if summary.failed:
            raise ValueError("a failed run can't be compared: " + "; ".join(summary.errors[:1] or ["none ran"]))
    return {field: ratio(ours[field], theirs[field]) for field in ("rate", "cpu", "p50_us")}
