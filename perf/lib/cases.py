# SPDX-License-Identifier: Apache-2.0
"""The table of cases. A case is data; measure.py knows how to run each sort of load."""

from dataclasses import dataclass


UNITS = {"bulk": "Gbit/s", "udp": "packets/s", "trans": "1/s", "memory": "KiB", "hold": "KiB each",
         "start": "ms"}
CPU_UNITS = {"bulk": "s/GB", "udp": "us", "trans": "us"}


@dataclass(frozen=True)
class Case:
    """One load through one way."""
    name: str
    load: str  # bulk, udp, trans, memory, hold, start
    n: int = 1  # streams, flows or connections
    direction: str = "up"  # up: from the guest; down: to it; both
    version: int = 4
    mtu: int = 65520
    way: str = "out"  # out: the guest connects; fwd: a forwarded port; lo: the host's loopback; floor
    size: int = 1400  # of a datagram or a request
    response: int = 1
    reconnect: bool = False
    gro: bool = False  # the receiver of datagrams takes them as its kernel joins them
    rate: float = 0  # offered, bytes or datagrams a second; 0 for as fast as it goes
    congestion: str = "cubic"

    @property
    def unit(self):
        return UNITS[self.load]

    @property
    def cpu_unit(self):
        return CPU_UNITS.get(self.load, "")


def _bulk():
    for version in (4, 6):
        for mtu in (1500, 65520):
            for n in (1, 4, 16):
                for direction in ("up", "down", "both"):
                    yield Case(f"tcp-{n}-{direction}-v{version}-{mtu}", "bulk", n, direction, version, mtu)
    for mtu in (1280, 9000):
        for direction in ("up", "down"):
            yield Case(f"tcp-1-{direction}-v4-{mtu}", "bulk", 1, direction, 4, mtu)


def _udp():
    for version in (4, 6):
        for size in (64, 1400):
            for direction in ("up", "down"):
                yield Case(f"udp-{size}-{direction}-v{version}", "udp", 1, direction, version, size=size)
    # Where the receiver's own cost would be the limit.
    for size in (64, 1400):
        yield Case(f"udp-{size}-up-gro", "udp", 1, "up", size=size, gro=True)


def _trans():
    for version, suffix in ((4, ""), (6, "-v6")):
        for n in (1, 32):
            yield Case(f"rr-{n}{suffix}", "trans", n, version=version, size=1)
            yield Case(f"crr-{n}{suffix}", "trans", n, version=version, size=1, reconnect=True)


def _inward():
    for way in ("fwd", "lo"):
        yield Case(f"{way}-tcp-1-down", "bulk", 1, "down", way=way)
        yield Case(f"{way}-tcp-1-up", "bulk", 1, "up", way=way)
        yield Case(f"{way}-rr-1", "trans", 1, way=way, size=1)
        yield Case(f"{way}-crr-32", "trans", 32, way=way, size=1, reconnect=True)
    yield Case("http-32", "trans", 32, way="fwd", size=80, response=600)
    yield Case("http-new-32", "trans", 32, way="fwd", size=80, response=600, reconnect=True)


def _steady():
    # A load that one shard carries: what more shards cost shows in CPU per byte and per packet.
    yield Case("fixed-tcp-up", "bulk", 8, "up", rate=250e6)
    yield Case("fixed-tcp-down", "bulk", 8, "down", rate=250e6)
    yield Case("fixed-udp-up", "udp", 8, "up", rate=20000)
    yield Case("fixed-udp-down", "udp", 8, "down", rate=20000)
    # Twice that: for two shards, beside the load above for one.
    yield Case("fixed2-tcp-up", "bulk", 16, "up", rate=500e6)
    yield Case("fixed2-tcp-down", "bulk", 16, "down", rate=500e6)
    yield Case("fixed2-udp-up", "udp", 16, "up", rate=40000)
    yield Case("fixed2-udp-down", "udp", 16, "down", rate=40000)
    # A third of a core and more for one shard by vhost-user, twice that for two, and all that comes through.
    yield Case("third-udp-up", "udp", 8, "up", gro=True, rate=250000)
    yield Case("third2-udp-up", "udp", 16, "up", gro=True, rate=500000)
    yield Case("full-udp-up", "udp", 16, "up", gro=True)


def _still():
    yield Case("memory-idle", "memory", 0)
    yield Case("memory-connection", "hold", 500)
    yield Case("start-up", "start", 0)
    yield Case("floor", "bulk", 1, "down", way="floor")


def all_cases(congestions=("cubic",)):
    """Every case; TCP's once more for each further congestion control, named with it."""
    plain = [*_bulk(), *_udp(), *_trans(), *_inward(), *_steady(), *_still()]
    cases = list(plain)
    for congestion in congestions[1:]:
        cases += [Case(**{**case.__dict__, "name": f"{case.name}-{congestion}", "congestion": congestion})
                  for case in plain if case.load in ("bulk", "trans")]
    return cases


def fits(case, kind):
    """Whether a kind can run a case."""
    if case.way == "floor" or "floor" in kind.ways:
        return case.way in kind.ways
    if case.load in ("memory", "hold", "start"):
        return "daemon" in kind.ways and hasattr(kind, "background")
    return case.version in kind.versions and case.way in kind.ways and (case.load != "udp" or "udp" in kind.ways)
