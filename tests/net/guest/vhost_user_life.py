#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
What happens to a guest of two queue pairs in its life: the number of those that it uses changed, and stopped and
continued, and saved as for a migration, with data under way; reset, its driver unbound, QEMU killed, the daemon killed; with split and with packed
rings. Each time it has network afterwards. TAPLOOM names the program under test; the arguments are names of events,
none means all.
"""

import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))

import guest  # noqa: E402
import topology  # noqa: E402
import traffic  # noqa: E402

MEMORY_MIB = 768
SIZE = 20_000_000
PROMPT = re.compile(rb"# (\x1b\[6n)?$")
SECONDS = 300  # until a guest that says nothing hangs
RINGS = {"split": "", "packed": "packed=on"}
DRIVER = "/sys/bus/virtio/drivers/virtio_net"


class Console:
    """QEMU with a shell of the guest on its serial line, and its monitor."""

    def __init__(self, net, path, options):
        values = guest.settings(net, size=SIZE) | {"GUEST_MODE": "shell"}
        boot = guest.Guest(net, guest.vhost_user_device(path, 2, MEMORY_MIB, options), values, MEMORY_MIB)
        self.monitor = os.path.join(net.directory, "monitor")
        self.command = [word for word in boot.command if word != "-no-reboot"]
        self.command += ["-serial", "stdio", "-qmp", f"unix:{self.monitor},server=on,wait=off"]
        self.process = None

    def start(self):
        """Boots it."""
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=topology.die_with_parent)
        self.answer()

    def answer(self):
        """What it prints until the next prompt."""
        text, descriptor = b"", self.process.stdout.fileno()
        while not PROMPT.search(text):
            if not select.select([descriptor], [], [], SECONDS)[0]:
                raise RuntimeError(f"the guest hangs: {text[-500:]}")
            got = os.read(descriptor, 65536)
            if not got:
                raise RuntimeError(f"QEMU ended: {text[-500:]}")
            text += got
        return text.decode(errors="replace")

    def say(self, command):
        """Types a command."""
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def do(self, command):
        """Types a command; returns what it prints."""
        self.say(command)
        return self.answer()

    def tell_monitor(self, *commands, **arguments):
        """Commands for QEMU itself, the last with arguments; returns the last one's answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.monitor)
            with sock.makefile("rw") as file:
                file.readline()
                for command in ("qmp_capabilities", *commands):
                    told = {"execute": command, "arguments": arguments if command == commands[-1] else {}}
                    file.write(json.dumps(told) + "\n")
                    file.flush()
                    answer = {}
                    while "return" not in answer:
                        answer = json.loads(file.readline())
                        if "error" in answer:
                            raise RuntimeError(f"QEMU refused {command}: {answer}")
                return answer["return"]


class Life:
    """One guest and its daemon; each event is a method."""

    def __init__(self, net, options):
        self.net = net
        self.daemon = self.new_daemon()
        self.console = Console(net, self.daemon.socket, options)
        self.console.start()

    def new_daemon(self):
        """The daemon that the guest's QEMU connects to."""
        return self.net.taploom("--vhost-user", "--shards", "2")

    def has_network(self):
        """Whether the remote answers."""
        answer = self.console.do(f"ping -c 3 -W 10 {self.net.REMOTE4} | grep -c 'bytes from'")
        return re.search(r"^[1-3]\s*$", answer, re.MULTILINE)

    def queues_changed(self):
        """ethtool changes their number all the time while connections transfer, of which none is lost."""
        server = f"socat -t {SECONDS} - TCP:{self.net.REMOTE4}:{self.net.PORT}"
        self.console.do("pids=; for i in 1 2 3; do "
                        f"echo get {SIZE} | {server} | sha256sum >/tmp/get$i & pids=\"$pids $!\"; "
                        f"(echo put {SIZE}; head -c {SIZE} /dev/zero) | {server} >/tmp/put$i & pids=\"$pids $!\"; done")
        self.console.do("n=0; while kill -0 $pids; do ethtool -L eth0 combined $((n % 2 + 1)) || break; n=$((n + 1)); "
                        "done 2>/tmp/error")
        text = self.console.do("wait; ethtool -L eth0 combined 2; cat /tmp/get* /tmp/put*; echo $n changes; "
                               "cat /tmp/error")
        assert text.count(traffic.data_sum(SIZE)) == 3, f"other bytes came:\n{text}"
        assert text.count(hashlib.sha256(bytes(SIZE)).hexdigest()) == 3, f"other bytes went:\n{text}"
        changes = int(re.search(r"(\d+) changes", text)[1])
        assert changes >= 4, text
        counters = self.daemon.counters()
        assert "frames-own" in counters and {"frames-ring", "frames-inline"} & set(counters), "one role is missing"
        print(f"  {changes} changes", flush=True)

    def stopped_in_a_download(self):
        """Continued, it gets the rest."""
        self.console.say(f"echo get {SIZE} | socat -t {SECONDS} - TCP:{self.net.REMOTE4}:{self.net.PORT} | "
                         "sha256sum")
        for _ in range(5):
            self.console.tell_monitor("stop")
            time.sleep(0.5)  # the state under test: a guest that stands still
            self.console.tell_monitor("cont")
        assert traffic.data_sum(SIZE) in self.console.answer(), "other bytes came"

    def saved_in_a_download(self):
        """As for a migration, to nowhere, with writes logged meanwhile; continued, it gets the rest."""
        self.console.say(f"echo get {SIZE} | socat -t {SECONDS} - TCP:{self.net.REMOTE4}:{self.net.PORT} | "
                         "sha256sum")
        self.console.tell_monitor("migrate", uri="exec:cat >/dev/null")
        topology.wait_until(self.is_saved, SECONDS, "a migration")
        self.console.tell_monitor("cont")
        assert traffic.data_sum(SIZE) in self.console.answer(), "other bytes came"

    def is_saved(self):
        """Whether the migration is over, and has not failed."""
        status = self.console.tell_monitor("query-migrate").get("status")
        assert status not in ("failed", "cancelled"), status
        return status == "completed"

    def reset(self):
        """It boots anew, on the same connection."""
        self.console.tell_monitor("system_reset")
        self.console.answer()

    def driver_unbound(self):
        """Three times, and bound again."""
        self.console.do(f"cd {DRIVER}; for i in 1 2 3; do for v in virtio*; do echo $v >unbind; "
                        "echo $v >bind; done; done; cd /; sh /guest/configure.sh all")

    def daemon_killed(self):
        """QEMU connects to the next one."""
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait()
        self.daemon = self.new_daemon()
        topology.wait_until(lambda: "The guest is connected" in self.daemon.log(), 60, "a new connection")

    def daemon_killed_under_load(self):
        """Three times, with data under way in both directions."""
        server = f"socat - TCP:{self.net.REMOTE4}:{self.net.PORT} >/dev/null 2>&1"
        for _ in range(3):
            self.console.do(f"(echo get {SIZE}; sleep {SECONDS}) | {server} &")
            self.console.do(f"(echo put {SIZE}; head -c {SIZE} /dev/zero) | {server} &")
            topology.wait_until(self.is_loaded, 60, "data in both directions")
            self.daemon_killed()
            assert self.has_network(), f"no network:\n{self.daemon.log()}"
            self.console.do("killall socat sleep")

    def is_loaded(self):
        """Whether a megabyte has gone each way by this daemon."""
        counters = self.daemon.counters()
        return all(counters.get(name, {}).get("total", 0) > 1_000_000 for name in ("rx-bytes", "tx-bytes"))

    def qemu_killed(self):
        """The next QEMU is served, and no descriptor of the first is left."""
        before = self.daemon.descriptors()  # with those of its flows
        self.console.process.kill()
        self.console.process.wait()
        self.console.start()
        assert self.daemon.descriptors() <= before, f"{before}, then {self.daemon.descriptors()} descriptors"


EVENTS = ("queues_changed", "stopped_in_a_download", "saved_in_a_download", "driver_unbound", "daemon_killed", "daemon_killed_under_load",
          "reset", "qemu_killed")


def live(rings, events):
    """One guest's life, with one kind of rings."""
    with topology.Topology("taploom-life", data=SIZE) as net:
        life = Life(net, RINGS[rings])
        assert life.has_network(), "no network after the boot"
        for event in events:
            getattr(life, event)()
            assert life.has_network(), f"no network after {event}:\n{life.daemon.log()}"
            print("ok", rings, event.replace("_", " "), flush=True)
        lies = life.daemon.counters().get("drop-vring")
        assert not lies, f"{lies}:\n{life.daemon.log()}"
        life.console.process.kill()
        life.console.process.wait()


def main():
    for rings in RINGS:
        live(rings, sys.argv[1:] or EVENTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
