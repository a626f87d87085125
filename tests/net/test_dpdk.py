#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""
DPDK's virtio driver as the front-end, which is nobody's we know: kinds of rings, numbers of queue pairs and of
shards. What testpmd swaps and sends back must be what was sent; what it sends must arrive in full. Needs
Debian's dpdk-dev. Arguments: names of tests, none means all.
"""

import itertools
import os
import re
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import traffic  # noqa: E402
from topology import Topology, stop, wait_until  # noqa: E402

PORT = 8080
MTU = 16000  # of all links: what is sent back has DF set
BUFFER = 2000  # bytes of a datagram that one of testpmd's buffers holds
PROMPT = b"testpmd> "
SKIPPED = 77


class Testpmd:
    """
    testpmd with a port for each (socket, devargs), driven by its commands, which it repeats before a
    prompt. What it prints goes through a buffer of lines, else of 4 KiB.
    """

    def __init__(self, net, ports, queues):
        devices = [f"--vdev=net_virtio_user{i},path={path},queues={queues},{devargs}"
                   for i, (path, devargs) in enumerate(ports)]
        self.process = net.host.start(
            "stdbuf", "-oL", "dpdk-testpmd", "-l", "0,1", "--no-pci", "--no-huge", "-m", "256", "--no-telemetry",
            "--file-prefix", net.prefix, *devices, "--", "-i", f"--rxq={queues}", f"--txq={queues}",
            "--total-num-mbufs=8192", "--no-mlockall", f"--tx-ip={net.HOST4},{net.REMOTE4}",
            "--tx-udp=4000,9", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._answer()

    def _answer(self, pattern=""):
        """Reads until a prompt, and until the pattern was seen: prompts come unasked for, too."""
        text = b""
        while not (text.endswith(PROMPT) and re.search(pattern, text.decode())):
            got = os.read(self.process.stdout.fileno(), 65536)
            if not got:
                raise RuntimeError("testpmd ended: " + text.decode())
            text += got
        return text.decode()

    def do(self, *commands, pattern=""):
        """Carries out commands; returns what the last one printed."""
        for command in commands:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
            answer = self._answer(pattern)
        return answer

    def packets(self, direction, port=0):
        """Packets that the port received ("RX") or sent ("TX")."""
        pattern = direction + r"-packets: (\d+)\s"
        return int(re.search(pattern, self.do(f"show port stats {port}", pattern=pattern)).group(1))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        stop(self.process)


def count(daemon, name):
    """A counter's sum; 0 if it isn't shown."""
    return daemon.counters().get(name, {}).get("total", 0)


def start(net, shards, *options):
    """A daemon for one front-end."""
    return net.taploom("--vhost-user", "--shards", str(shards), "-u", str(PORT), *options)


def end(daemon):
    """It must have found no fault with the rings, and end well."""
    lies = count(daemon, "drop-vring")
    assert daemon.process.poll() is None and not lies, f"{lies} lies:\n{daemon.log()}"
    assert daemon.stop() == 0, daemon.log()


def to_guest(net):
    """A socket whose datagrams go to the guest."""
    with net.remote.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(10)
    sock.connect((net.HOST4, PORT))
    return sock


def echoes(net, queues, shards, devargs, sizes):
    """What testpmd swaps comes back, whole."""
    daemon = start(net, shards)
    with Testpmd(net, [(daemon.socket, devargs)], queues) as testpmd:
        testpmd.do("set fwd 5tswap", "start tx_first 1")  # shows its address
        wait_until(lambda: count(daemon, "rx-frames") >= 32 * queues, 10, "first frames")
        for size in sizes:
            with to_guest(net) as sock:
                sock.send(traffic.data(size))
                assert sock.recv(65536) == traffic.data(size), f"{size} bytes came back otherwise"
    end(daemon)


def every_kind_of_ring_echoes(net):
    """Split and packed, in order or not, mergeable or not."""
    for packed, in_order, merged in itertools.product((0, 1), repeat=3):
        devargs = f"packed_vq={packed},in_order={in_order},mrg_rxbuf={merged}"
        echoes(net, 2, 2, devargs, (1, 64, 1400, 5000, 14000) if merged else (1, 64, 1400, BUFFER))
        print(f"  {devargs}", flush=True)


def every_number_of_queues_echoes(net):
    """More pairs than shards, and fewer."""
    for queues, shards in ((1, 1), (1, 4), (2, 4), (4, 1), (4, 2), (4, 4)):
        echoes(net, queues, shards, "packed_vq=0", (200, 14000))
        echoes(net, queues, shards, "packed_vq=1", (200, 14000))
        print(f"  {queues} pairs, {shards} shards", flush=True)


def all_that_is_sent_arrives(net):
    """Every frame of a flood is seen, and with a pair for each shard each shard works."""
    for queues, shards, mode, devargs in ((1, 1, "txonly", ""), (1, 4, "flowgen", ""), (4, 4, "txonly", ""),
                                          (2, 2, "flowgen", "packed_vq=1,in_order=1,mrg_rxbuf=0"),
                                          (4, 2, "txonly", "packed_vq=1"), (2, 2, "txonly", "in_order=1")):
        daemon = start(net, shards)
        with Testpmd(net, [(daemon.socket, devargs)], queues) as testpmd:
            testpmd.do(f"set fwd {mode}", "start")
            wait_until(lambda: count(daemon, "rx-frames") > 20000, 60, "a flood")
            testpmd.do("stop")
            sent = testpmd.packets("TX")
            wait_until(lambda: count(daemon, "rx-frames") == sent, 10, f"all of {sent} frames")
        if queues >= shards:
            own = daemon.counters()["frames-own"]
            assert all(own[f"shard{i}"] for i in range(shards)), own
        end(daemon)
        print(f"  {mode}, {queues} pairs, {shards} shards: {sent} frames", flush=True)


def a_silent_guest_gets_datagrams(net):
    """A guest that has sent nothing hears what a forwarded port receives, on either kind of ring."""
    for mode, devargs in (("rxonly", "packed_vq=1"), ("rxonly", "in_order=1"), ("icmpecho", "mrg_rxbuf=0")):
        daemon = start(net, 2)
        with Testpmd(net, [(daemon.socket, devargs)], 2) as testpmd, to_guest(net) as sock:
            testpmd.do(f"set fwd {mode}", "start")

            def send_and_look():
                for _ in range(100):
                    sock.send(traffic.data(1000))
                return testpmd.packets("RX") >= 1000
            wait_until(send_and_look, 60, "1000 datagrams")
        end(daemon)


def two_daemons_stand_beside_each_other(net):
    """What one daemon sends its guest is passed on to the other as its guest's."""
    one = start(net, 2)
    two_socket = one.socket + "2"
    two = subprocess.Popen(
        net.host.command(one.command_line[0], "-f", "--vhost-user", "--no-udp", "-s", two_socket, "--pcap",
                         one.socket + ".pcap"), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: os.path.exists(two_socket), 10, "second socket")
        with Testpmd(net, [(one.socket, "packed_vq=1"), (two_socket, "")], 1) as testpmd, \
                to_guest(net) as sock:
            testpmd.do("set fwd io", "start")

            def send_and_look():
                sock.send(b"through both")
                with open(one.socket + ".pcap", "rb") as capture:
                    return b"through both" in capture.read()
            wait_until(send_and_look, 20, "a datagram through both")
    finally:
        assert stop(two) == 0
    end(one)


def the_next_front_end_is_served(net):
    """testpmd killed in a flood and started again, ten times: descriptors do not grow."""
    daemon = start(net, 2)
    descriptors, before = [], 0
    for _ in range(10):
        with Testpmd(net, [(daemon.socket, "packed_vq=1")], 2) as testpmd:
            testpmd.do("set fwd txonly", "start")
            wait_until(lambda: count(daemon, "rx-frames") > before + 1000, 30, "a flood")
            testpmd.process.kill()
        gone = len(descriptors) + 1
        wait_until(lambda: daemon.log().count("The guest is gone") == gone, 10, "the guest to be gone")
        descriptors.append(daemon.descriptors())
        before = count(daemon, "rx-frames")
    assert max(descriptors) <= descriptors[0], f"descriptors grow: {descriptors}"
    end(daemon)


TESTS = (every_kind_of_ring_echoes, every_number_of_queues_echoes, all_that_is_sent_arrives,
         a_silent_guest_gets_datagrams, two_daemons_stand_beside_each_other, the_next_front_end_is_served)


def main():
    if not shutil.which("dpdk-testpmd"):
        print("skipped: dpdk-testpmd (Debian's dpdk-dev) is not installed")
        return SKIPPED
    with Topology("taploom-dpdk", servers=False) as net:
        for space, names in ((net.host, ("eth0",)), (net.router, ("inside", "outside")),
                             (net.remote, ("eth0",))):
            for name in names:
                space.ip("link", "set", name, "mtu", str(MTU))
        for test in TESTS:
            if not sys.argv[1:] or test.__name__ in sys.argv[1:]:
                test(net)
                print("ok", test.__name__.replace("_", " "), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
