#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the options of the table, of --help and of the manual page: names, letters, arguments, order.

usage: check_manual.py PROGRAM options_table.h taploom.1
"""
import re
import subprocess
import sys


def of_table(path):
    """The rows of the table as (name, letter, argument), hidden ones apart."""
    text = open(path).read().replace("\\\n", " ")
    rows = re.findall(r'X\(\s*(\w+),\s*(?:\'(.)\'|0),\s*"([^"]+)",\s*(?:"([^"]+)"|NULL),', text)
    shown = [(name, letter, argument) for section, letter, name, argument in rows if section != "HIDDEN"]
    hidden = [name for section, _, name, _ in rows if section == "HIDDEN"]
    return shown, hidden


def of_help(program):
    run = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    found = re.findall(r"^  (?:-(.), |    )--(\S+)(?: (\S+))?$", run.stdout, re.M)
    return [(name, letter, argument) for letter, name, argument in found]


def of_manual(path):
    text = open(path).read()
    text = text[text.index(".SH OPTIONS"):text.index(".SH FORWARDED PORTS")]
    options = []
    for line in re.findall(r"^\.TP\n(.*)$", text, re.M):
        line = re.sub(r'\\f[BIR]', "", line).replace("\\-", "-")
        line = re.sub(r'^\.\w+ ', "", line).replace('"', "")
        match = re.fullmatch(r"(?:-(.) ?, +)?--(\S+)(?: (\S+))?", line)
        if not match:
            sys.exit(f"{path}: not understood: {line}")
        letter, name, argument = match.groups(default="")
        options.append((name, letter, argument))
    return options


def compare(what, expected, found):
    for row in expected:
        if row not in found:
            sys.exit(f"{what} does not show the table's --{row[0]} as {row}")
    for row in found:
        if row not in expected:
            sys.exit(f"{what} shows --{row[0]} as {row}, the table does not")
    if expected != found:
        sys.exit(f"{what} has another order than the table")


def main():
    program, table, manual = sys.argv[1:]
    shown, hidden = of_table(table)
    if len(shown) < 50 or not hidden:
        sys.exit(f"{table}: only {len(shown)} options were found")
    compare("--help", shown, of_help(program))
    compare("the manual page", shown, of_manual(manual))
    print(f"{len(shown)} options agree")


main()
