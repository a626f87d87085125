# SPDX-License-Identifier: Apache-2.0
"""The options that perf's programs share, and what they choose."""

import os
import shutil
import sys

from cases import all_cases
from kinds import all_kinds
from measure import Bench, check_machine
from space import Failure
from stats import select

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _peer(text):
    kind, sign, path = text.partition("=")
    if not sign or not os.access(path, os.X_OK):
        raise ValueError(text)
    return kind, path


def add_options(parser, seconds=5.0):
    """Those of every program in perf/."""
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR",
                        help="where all was built; default build/release")
    parser.add_argument("--taploom", metavar="PATH", help="another taploom than that of the build")
    parser.add_argument("--neper", metavar="DIR", 
                        help="where tcp_rr and tcp_crr are; default: PATH, else own generator")
    parser.add_argument("--peer", action="append", default=[], type=_peer, metavar="KIND=PATH",
                        help="a further passt, passt-vu (vhost-user), pasta or slirp4netns")
    parser.add_argument("--kind", action="append", default=[], metavar="GLOB", help="kinds to run; default all")
    parser.add_argument("--shards", default="", metavar="LIST", help="run taploom with each of these: 1,2,4,8")
    parser.add_argument("--pin", action="store_true", help="pin each of taploom's threads to a CPU")
    parser.add_argument("--cc", default="cubic", metavar="LIST",
                        help="congestion controls; TCP's cases again with each further one: cubic,bbr")
    parser.add_argument("--seconds", type=float, default=seconds, metavar="S",
                        help=f"measured time of a run, default {seconds:g}")


def choose(options):
    """(cases, kinds) as the options say; ends the program if none is left."""
    shards = [int(part) for part in options.shards.split(",") if part]
    every = all_cases(tuple(options.cc.split(",")))
    try:
        taploom = options.taploom or os.path.join(options.build, "taploom")
        kinds = all_kinds(taploom, options.build, options.peer, shards, options.pin)
    except Failure as failure:
        sys.exit(f"{sys.argv[0]}: {failure}")
    names = select([case.name for case in every], [] if getattr(options, "all", False) else options.case)
    labels = select([kind.label for kind in kinds], options.kind)
    if not names or not labels:
        sys.exit(f"{sys.argv[0]}: no case or no kind matches; try --list")
    return [case for case in every if case.name in names], [kind for kind in kinds if kind.label in labels]


def bench(options):
    """The Bench of the options; ends the program with 77 if the machine can't run it."""
    why = check_machine(options.build)
    if why:
        print(f"{sys.argv[0]}: {why}", file=sys.stderr)
        sys.exit(77)
    found = shutil.which("tcp_rr")
    options.neper = options.neper or (os.path.dirname(found) if found else None)
    return Bench(options.build, options.seconds, options.neper)
