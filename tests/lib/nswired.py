# SPDX-License-Identifier: Apache-2.0
"""A client behind a namespace: its packets cross a wire with faults, are forwarded to the tap device, and come to taploom."""
from lossy import Wire, make_tap
from netns import Namespace
from nsflows import at_once, drain, pour
from nsguest import NsGuest

INNER4, INNER6 = "10.204.0", "2001:db8:204::"


class WiredClient:
    """The namespace .ns of the client; .guest is the one with the tap device."""

    def __init__(self, case, mtu, *options):
        self.case = case
        self.guest = NsGuest(case, "-m", mtu, "-I", "eth0", *options)
        self.ns = Namespace("c")
        case.cleanups.append(self.ns.delete)
        self.ns.sysctl("net.ipv6.conf.default.accept_dad", 0)
        make_tap(self.ns, "c0", mtu)
        make_tap(self.guest.ns, "c1", mtu)
        # Addresses come with the wire: a tap device has no carrier before.
        self.wire = Wire(case, "tap:c0@" + self.ns.name, "tap:c1@" + self.guest.ns.name)
        self.wire.again()
        self.guest.ns.sysctl("net.ipv4.ip_forward", 1)
        self.guest.ns.sysctl("net.ipv6.conf.all.forwarding", 1)
        self.guest.ns.batch("addr add %s.1/24 dev c1\naddr add %s1/64 dev c1 nodad\nlink set c1 up\n" % (INNER4, INNER6))
        self.ns.batch("addr add %s.2/24 dev c0\naddr add %s2/64 dev c0 nodad\nlink set c0 up\nroute add default via %s.1\n"
                      "route add ::/0 via %s1\n" % (INNER4, INNER6, INNER4, INNER6))

    def transfer(self, addr, n, flows=1, seconds=60):
        """n bytes each way at once over each connection; all must arrive as they were sent."""
        server = self.case.net.remote.tcp_server(addr)
        pairs = []
        for _ in range(flows):
            client = self.ns.tcp_client(addr, server.getsockname()[1], timeout=seconds)
            peer = server.accept()[0]
            peer.settimeout(seconds)
            pairs.append((client, peer))
        server.close()
        work = []
        for seed, (client, peer) in enumerate(pairs):
            work += [lambda s=client, k=seed: pour(s, n, k), lambda s=peer: drain(s),
                     lambda s=peer, k=seed: pour(s, n, k + 1000), lambda s=client: drain(s)]
        sums = at_once(*work, seconds=seconds)
        for client, peer in pairs:
            client.close()
            peer.close()
        assert None not in sums, "a transfer failed or stood still"
        assert sums[0::2] == sums[1::2], "a SHA-256 differs"
