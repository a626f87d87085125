#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Checks the man pages: groff has nothing to complain of, and taploom.1 has an entry for each option
that --help lists, and for no other. The argument is the program.
"""

import glob
import os
import re
import subprocess
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
OPTION = re.compile(r"(?<![\w-])--[a-z0-9][a-z0-9-]*")
ENTRY = re.compile(r"^(?:\s*-\w[, ]| {2,8}--[a-z0-9])")


def rendered(page):
    """The page as man(1) shows it, and what groff warned of."""
    environment = dict(os.environ, MANWIDTH="100", LC_ALL="C.UTF-8", MANROFFOPT="-c", MAN_KEEP_FORMATTING="")
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", page], check=False,
                          capture_output=True, text=True, env=environment)
    plain = re.sub("\x1b\\[[0-9;]*m|.\x08", "", done.stdout)
    return plain, done.stderr.strip()


def options_of(text):
    """The long options that lines of text begin with: entries, not mentions."""
    found = set()
    for line in text.splitlines():
        if ENTRY.match(line):
            # An entry's options come before its description.
            found.update(OPTION.findall(re.split(r"\s{2,}(?=[^-\s])", line.strip())[0]))
    return found


def main():
    failures = []
    for page in sorted(glob.glob(os.path.join(ROOT, "docs", "*.1"))):
        text, warnings = rendered(page)
        name = os.path.basename(page)
        if warnings:
            failures.append(f"{name}: {warnings}")
        if len(text.splitlines()) < 20:
            failures.append(f"{name}: almost empty")
        if name == "taploom.1":
            listed = subprocess.run([sys.argv[1], "--help"], check=False, capture_output=True, text=True)
            helped = options_of(listed.stdout + listed.stderr)
            paged = options_of(text)
            failures += [f"{name}: no entry for {option}, which --help lists" for option in sorted(helped - paged)]
            failures += [f"--help: no line for {option}, which {name} has" for option in sorted(paged - helped)]
            if not helped:
                failures.append("--help lists no option")
    print("\n".join(failures) or "the man pages are complete")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
