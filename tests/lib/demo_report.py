# SPDX-License-Identifier: Apache-2.0
"""
What the parts of ./demo share: a progress line for each step, and the report at the end.
"""

import sys
import time

import topology

# Counters that tell what each thread did; drops are shown too, whatever their reason.
SHOWN = ("rx-frames", "tx-frames", "batches-inline", "batches-ring", "frames-inline", "frames-ring",
         "frames-own", "flows-opened", "accepted", "tcp-rx-bytes", "tcp-tx-bytes", "tcp-retrans",
         "udp-rx", "udp-tx", "icmp-rx", "icmp-tx")
# Those that only a shard counts.
OF_SHARDS = ("tcp-rx-bytes", "tcp-tx-bytes", "udp-rx", "udp-tx", "icmp-rx")



def progress(step, text):
    """One line for a step that begins."""
    print(f"[ {step:<8} ] {text}", flush=True)


class Report:
    """Collects results while it prints them, and sums up at the end."""

    def __init__(self, texts):
        """texts: {check: what it tries}, for readers who don't know the list of checks."""
        self.texts = texts
        self.passed = self.failed = 0
        self.rows = []
        self.begun = time.monotonic()

    def add(self, name, passed, detail, seconds):
        """One result, as guest.Guest.run_checks() gives it."""
        self.passed += bool(passed)
        self.failed += not passed
        self.rows.append((name, passed, detail))
        progress("ok" if passed else "FAILED", f"{self.text(name)} ({seconds:.1f} s)")

    def text(self, name):
        """What a check tries, in words."""
        return self.texts.get(name, name)

    def print(self, title, counters):
        """The report: each thing tried, its result, and the counters of each thread."""
        width = max(len(self.text(name)) for name, _, _ in self.rows)
        print(f"\n{title}\n{'=' * len(title)}")
        for name, passed, detail in self.rows:
            print(f"  {'ok    ' if passed else 'FAILED'}  {self.text(name):<{width}}  {detail}")
        print_counters(counters)
        print(f"\n{self.passed} passed, {self.failed} failed; "
              f"{time.monotonic() - self.begun:.0f} s after the build", flush=True)

    def check_shards(self, counters, shards):
        """Whether every shard carried something."""
        counts = [sum(counters.get(name, {}).get(f"shard{i}", 0) for name in OF_SHARDS)
                  for i in range(shards)]
        shares = ", ".join(f"{100 * count // max(1, sum(counts))} %" for count in counts)
        self.add("shards", all(counts), f"of the payload: {shares}", 0)


def print_counters(counters):
    """The table of counters, one column a thread."""
    rows = {name: row for name, row in counters.items() if name in SHOWN or name.startswith("drop-")}
    if not rows:
        print("\nno counters were printed")
        return
    columns = list(next(iter(rows.values())))
    print("\n  " + f"{'counter':<20}" + "".join(f"{column:>14}" for column in columns))
    for name, row in rows.items():
        print("  " + f"{name:<20}" + "".join(f"{row[column]:>14}" for column in columns))


def main(run):
    """Runs a part of the demonstration; whatever ends it, it cleans up and says why."""
    topology.end_on_signals()
    try:
        return run()
    except KeyboardInterrupt:
        print("\ninterrupted; everything was removed again", file=sys.stderr)
        return 130
    except (RuntimeError, OSError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
