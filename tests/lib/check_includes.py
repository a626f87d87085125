#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Checks which files each folder of src/ includes, as docs/architecture.md lays down: its own, those
of include/taploom, and the system's; main may include all. Only taploom/rcu.h includes liburcu.
"""

import os
import re
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
FOLDERS = ("tap", "shard", "services", "main")


def files(folder):
    for path, _, names in os.walk(os.path.join(ROOT, folder)):
        for name in sorted(names):
            if name.endswith((".c", ".h")):
                yield os.path.relpath(os.path.join(path, name), ROOT)


def includes(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return INCLUDE.findall(file.read())


def exists(*parts):
    return os.path.exists(os.path.join(ROOT, *parts))


def refusal(path, own, quoted, system):
    """Why a file of src/<own> or include/ (own is "") may not include this; None if it may."""
    if system:
        if system.startswith("urcu") and path != "include/taploom/rcu.h":
            return "only taploom/rcu.h includes liburcu"
        return None
    if quoted.startswith("taploom/"):
        return None if exists("include", quoted) else "no such interface"
    if not own:
        return "an interface includes interfaces only"
    if ".." in quoted.split("/"):
        return "includes go by name, not by way of a parent folder"
    if exists("src", own, quoted) or (own == "main" and exists("src", quoted)):
        return None
    return f"src/{own} sees include/ and itself"


def main():
    failures = []
    scopes = [("include", "")] + [(f"src/{folder}", folder) for folder in FOLDERS]
    for scope, own in scopes:
        for path in files(scope):
            for quoted, system in includes(path):
                why = refusal(path, own, quoted, system)
                if why:
                    failures.append(f'{path}: includes "{quoted or system}": {why}')
    print("\n".join(failures) or "every include is allowed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
