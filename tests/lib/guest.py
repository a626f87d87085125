# SPDX-License-Identifier: Apache-2.0
"""
A QEMU guest that runs the list of checks in tests/net/guest/checks.sh, or a shell.

The guest talks over its serial console: a line for each check, and requests for what must be done
outside ("ask …"), which are answered here. How the guest is joined to the daemon is a list of QEMU
options, so that every transport runs the same list.
"""

import functools
import os
import re
import select
import subprocess
import time

import initramfs
import topology
import traffic

QEMU = "qemu-system-x86_64"
MAC = "52:54:00:12:34:56"
FORWARDED = "8080,8081"


@functools.cache
def accelerator():
    """
    "kvm" where it works, "tcg" otherwise.

    A nested machine may have the device file and yet hang or refuse the first instruction, so the
    guest's kernel must come as far as its first line.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    kernel, _ = initramfs.kernel()
    with subprocess.Popen(
            [*_machine("kvm", 128), "-kernel", kernel, "-append", "console=ttyS0 earlyprintk=ttyS0",
             "-serial", "stdio"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=topology.die_with_parent) as process:
        try:
            return "kvm" if any("Linux version" in line for line in lines(process.stdout.fileno(), 5)) else "tcg"
        finally:
            process.kill()


def _machine(accel, memory_mib):
    return [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", f"q35,accel={accel}", "-cpu", "host" if accel == "kvm" else "max",
            "-smp", "1", "-m", str(memory_mib)]


def stream_device(path):
    """QEMU options for a network card on a UNIX stream socket."""
    return ["-netdev", f"stream,id=net0,server=off,addr.type=unix,addr.path={path}",
            "-device", f"virtio-net-pci,netdev=net0,mac={MAC}"]


def vhost_user_device(path, pairs, memory_mib, options=""):
    """
    QEMU options for a card with queue pairs by vhost-user, and for the guest's memory, which is shared.

    options: further ones of the device. QEMU 7.2 crashes with MSI-X and vhost-user under TCG: no vectors there.
    """
    vectors = 2 * pairs + 2 if accelerator() == "kvm" else 0
    card = f"virtio-net-pci,netdev=net0,mac={MAC},vectors={vectors},mq={'on' if pairs > 1 else 'off'}"
    return ["-smp", str(pairs),
            "-object", f"memory-backend-memfd,id=mem,size={memory_mib}M,share=on",
            "-numa", "node,memdev=mem",
            "-chardev", f"socket,id=chr0,path={path},reconnect=1",
            "-netdev", f"vhost-user,id=net0,chardev=chr0,queues={pairs}",
            "-device", card + ("," + options if options else "")]


def settings(net, size=100_000_000, mtu=65520, checks=""):
    """What checks.sh must know about a topology."""
    return {
        "ADDR4": net.HOST4, "ADDR6": net.HOST6, "PREFIX6": net.PREFIX6,
        "GATEWAY4": net.GATEWAY4, "GATEWAY6": net.GATEWAY6,
        "REMOTE4": net.REMOTE4, "REMOTE6": net.REMOTE6,
        "NAME": net.NAME, "NAME4": net.NAME4, "NAME6": net.NAME6,
        "MTU": mtu, "SIZE": size, "SUM": traffic.data_sum(size),
        "HOST_PORT": net.HOST_PORT, "CHECKS": checks, "GUEST_MODE": "checks",
    }


class Asked:
    """What the guest's checks ask to be done outside, each a method."""

    def __init__(self, net):
        self.net = net
        self.actions = {"echo": self.echo, "peer": self.peer, "peer_loopback": self.peer_loopback}

    def answer(self, request):
        """Carries out one request; returns the line for the guest."""
        name, *arguments = request.split()
        try:
            return "answer ok " + self.actions[name](*arguments)
        except (OSError, ValueError) as error:
            return f"answer fail {error}"

    def echo(self, proto, port):
        """What is sent from the remote to a forwarded port comes back."""
        payload = traffic.data(200_000 if proto.startswith("tcp") else 1200)
        if self._from_remote(proto, port, payload) != payload:
            raise ValueError("other bytes came back")
        return f"{len(payload)} bytes came back"

    def peer(self, proto, port):
        """The address that the guest sees of the remote."""
        return self._from_remote(proto, port, b"who\n").decode().strip()

    def peer_loopback(self, proto, port):
        """The address that the guest sees of the host's loopback."""
        with self.net.host.entered():
            address = "127.0.0.1" if proto.endswith("4") else "::1"
            return traffic.exchange(proto, address, int(port), b"who\n").decode().strip()

    def _from_remote(self, proto, port, payload):
        with self.net.remote.entered():
            address = self.net.HOST4 if proto.endswith("4") else self.net.HOST6
            return traffic.exchange(proto, address, int(port), payload)


def lines(descriptor, seconds):
    """The lines read from a descriptor, until its end, or until none came for so many seconds."""
    pending = b""
    while select.select([descriptor], [], [], seconds)[0]:
        received = os.read(descriptor, 65536)
        if not received:
            return
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").strip()


def converse(process, net, report, seconds, joined):
    """
    Takes the lines of checks.sh from a process, and answers what it asks. joined: the detail of
    "guest up". Returns the number of checks that failed.
    """
    failed, asked, ended, other = 0, Asked(net), False, []
    begun = time.monotonic()
    for line in lines(process.stdout.fileno(), seconds):
        if line.startswith("ask "):
            process.stdin.write(asked.answer(line[4:]).encode() + b"\n")
            process.stdin.flush()
        elif match := re.match(r"(not )?ok (\S+): ?(.*)", line):
            now = time.monotonic()
            report(match[2], not match[1], match[3], now - begun)
            failed += bool(match[1])
            begun = now
        elif line == "guest up":
            report("boot", True, joined, time.monotonic() - begun)
            begun = time.monotonic()
        elif line == "guest end":
            ended = True
            break
        elif line:
            other.append(line)
    if not ended:
        report("guest", False, "ended early or hangs; its last lines: " + " / ".join(other[-5:]),
               time.monotonic() - begun)
        failed += 1
    return failed


class Guest:
    """One boot of the guest."""

    def __init__(self, net, device, values, memory_mib=768, programs=()):
        """
        net: the topology; device: QEMU options of the network card; values: see settings(); programs: further
        ones for the guest.
        """
        self.net = net
        self.accelerator = accelerator()
        archive = os.path.join(net.directory, "guest.cpio")
        kernel = initramfs.build(archive, values, programs)
        self.command = [
            *_machine(self.accelerator, memory_mib), "-kernel", kernel, "-initrd", archive,
            "-append", "console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off nokaslr "
                       "random.trust_cpu=on",
            "-device", "virtio-rng-pci", *device]

    def start(self):
        """Boots with the console on the process's standard streams; returns the process, to be ended by topology.stop()."""
        return subprocess.Popen(
            [*self.command, "-serial", "stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=topology.die_with_parent)

    def shell(self):
        """Gives the terminal to the guest until it ends."""
        subprocess.run([*self.command, "-serial", "mon:stdio"], check=False)

    def run_checks(self, report, seconds=300):
        """
        Boots, and runs the list. report(name, passed, detail, took_s) is called for each check,
        none of which may take longer than `seconds`.

        Returns the number of checks that failed; a guest that ends early or hangs counts as one.
        """
        process = self.start()
        try:
            return converse(process, self.net, report, seconds, f"by {self.accelerator.upper()}")
        finally:
            topology.stop(process)
