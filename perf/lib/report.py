# SPDX-License-Identifier: Apache-2.0
"""What perf/compare writes: a Markdown table, JSON, and SVG plots by gnuplot."""

import json
import os
import shutil
import subprocess

from cases import CPU_UNITS, UNITS
from stats import Summary, compare, markdown, number

HEAD = ("case", "kind", "rate", "unit", "min", "max", "of direct", "CPU", "client", "unit", "p50 us", "p99 us",
        "syscalls", "retr. guest", "retr. host", "gap ms")


def table(cases, summaries):
    """One row a case and kind. summaries: {(case name, kind label): Summary}, failed ones left out."""
    rows = []
    for case in cases:
        direct = summaries.get((case.name, "direct"))
        for (name, label), one in summaries.items():
            if name != case.name or one.failed:
                continue
            low, high = one.range
            known = direct and not direct.failed and label != "direct"
            share = compare(one, direct)["rate"] if known else None
            rows.append((name, label, number(one["rate"]), case.unit, number(low), number(high), number(share),
                         number(one["cpu"]), number(one["client_cpu"]),
                         case.cpu_unit if one["client_cpu"] or one["cpu"] else "", number(one["p50_us"]),
                         number(one["p99_us"]), number(one["syscalls"]),
                         number(one["retrans_guest"]), number(one["retrans_host"]),
                         number(one["longest_gap_ms"])))
    return markdown(HEAD, rows)


def ratios(cases, summaries, ours):
    """What each of our kinds is as a multiple of every other kind, case by case."""
    rows = []
    for case in cases:
        for mine in ours:
            one = summaries.get((case.name, mine))
            if one is None or one.failed:
                continue
            for (name, label), other in summaries.items():
                if name != case.name or label == mine or other.failed:
                    continue
                multiple = compare(one, other)
                rows.append((name, f"{mine} / {label}", number(multiple["rate"]), number(multiple["cpu"]),
                             number(multiple["p50_us"])))
    return markdown(("case", "ratio", "rate", "CPU", "p50"), rows)


def failures(summaries):
    """Lines that say which runs failed, and why."""
    return [f"{name} by {label}: {len(one.errors)} of {len(one.runs)} runs failed: {one.errors[0]}"
            for (name, label), one in summaries.items() if one.errors]


def summarise(results):
    """{(case, kind): [run, ...]} → {(case, kind): Summary}"""
    return {key: Summary(runs) for key, runs in results.items()}


def write_json(path, about, cases, results):
    rows = [{"case": case.__dict__ | {"unit": case.unit}, "kind": label, "runs": runs}
            for case in cases for (name, label), runs in results.items() if name == case.name]
    with open(path, "w", encoding="ascii") as file:
        json.dump({"about": about, "results": rows}, file, indent=1)
        file.write("\n")


PLOT = """set terminal svg size {width},480 font "sans,11" background "white"
set output "{out}"
set title "{title}"
set ylabel "{unit}"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set xtics rotate by -35 noenhanced
set key outside top center horizontal noenhanced
set grid ytics
set yrange [0:*]
set datafile missing "-"
plot {series}
"""


def _plot(folder, name, title, unit, cases, labels, value):
    """One clustered histogram; value(case, label) may be None."""
    data = os.path.join(folder, name + ".dat")
    with open(data, "w", encoding="ascii") as file:
        file.write("case " + " ".join(labels) + "\n")
        for case in cases:
            cells = [value(case, label) for label in labels]
            file.write(case.name + " " + " ".join("-" if cell is None else f"{cell:.6g}" for cell in cells) + "\n")
    series = ", ".join(f'"{data}" using {i + 2}:xtic(1) title "{label}"' for i, label in enumerate(labels))
    script = PLOT.format(width=max(640, 60 * len(cases) * max(1, len(labels) // 2)), title=title, unit=unit,
                         out=os.path.join(folder, name + ".svg"), series=series)
    subprocess.run(["gnuplot", "-"], input=script, text=True, check=True)
    os.unlink(data)


def plots(folder, cases, summaries):
    """Rate and CPU of each sort of load; says which files were written."""
    if not shutil.which("gnuplot"):
        return []
    written = []
    for load in ("bulk", "udp", "trans"):
        some = [case for case in cases if case.load == load]
        labels = list(dict.fromkeys(label for (name, label), one in summaries.items()
                                    if not one.failed and name in {case.name for case in some}))
        for field, unit in (("rate", UNITS[load]), ("cpu", "daemon CPU, " + CPU_UNITS[load])):
            def value(case, label, field=field):
                one = summaries.get((case.name, label))
                return one[field] if one and not one.failed else None
            some = [case for case in some if any(value(case, label) is not None for label in labels)]
            shown = [label for label in labels if any(value(case, label) is not None for case in some)]
            if not shown:
                continue
            _plot(folder, f"{load}-{field}", f"{load}: {field}", unit, some, shown, value)
            written.append(f"{load}-{field}.svg")
    return written
