#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The vhost-user message protocol over the socket: pieces, bursts, descriptors, and who breaks it."""
import array
import json
import os
import resource
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from suite import Daemon, Options, main, rows, test, wait_for

GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE, SET_LOG_BASE = range(1, 7)
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM = 15, 16, 17
GET_VRING_BASE, SET_VRING_KICK, GET_CONFIG, POSTCOPY_ADVISE, GET_INFLIGHT_FD = 11, 12, 24, 28, 31
GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG = 36, 37, 38
VERSION, REPLY, NEED_REPLY = 1, 4, 8
REPLY_ACK, LOG_SHMFD = 1 << 3, 1 << 1
MEMORY = 1 << 20


def message(request, payload=b"", flags=VERSION):
    """The bytes of one."""
    return struct.pack("=III", request, flags, len(payload)) + payload


def number(value):
    return struct.pack("=Q", value)


def region(guest, offset=0):
    """One memory region, as in a table."""
    return struct.pack("=QQQQ", guest, MEMORY, 0x7f0000000000 + guest, offset)


class FrontEnd:
    """A connection that says what it is told to."""

    def __init__(self, case, daemon, sock=None):
        self.sock = sock or socket.socket(socket.AF_UNIX)
        case.leaving.append(self.sock.close)
        case.cleanups.append(self.sock.close)
        self.sock.settimeout(10)
        if not sock:
            self.sock.connect(daemon.socket)

    def send(self, data, fds=()):
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], control)

    def reply(self, request):
        """The payload of the answer to a request."""
        got, flags, size = struct.unpack("=III", self.exactly(12))
        assert (got, flags & 7) == (request, VERSION | REPLY), (got, flags)
        return self.exactly(size)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            assert more, "disconnected"
            data += more
        return data

    def get(self, request):
        self.send(message(request))
        return struct.unpack("=Q", self.reply(request))[0]

    def acknowledged(self, request, payload=b"", fds=()):
        """Whether a request is accepted."""
        self.send(message(request, payload, VERSION | NEED_REPLY), fds)
        return struct.unpack("=Q", self.reply(request))[0] == 0

    def negotiate(self, wanted=REPLY_ACK | LOG_SHMFD):
        self.get(GET_FEATURES)
        assert self.get(GET_PROTOCOL_FEATURES) & wanted == wanted
        self.send(message(SET_PROTOCOL_FEATURES, number(wanted)))
        return self

    def lives(self):
        return self.get(GET_QUEUE_NUM) >= 32

    def is_ended(self):
        """Whether the other side has closed it."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


def started(case, *options):
    daemon = case.start("--vhost-user", *options)
    return daemon, FrontEnd(case, daemon)


def memory(case, n=1):
    """Descriptors of memory to share."""
    fds = [os.memfd_create("guest") for _ in range(n)]
    for fd in fds:
        os.ftruncate(fd, MEMORY)
        case.cleanups.append(lambda fd=fd: os.close(fd))
    return fds


@test
def a_message_that_comes_byte_by_byte_is_understood(case):
    _, front = started(case)
    for byte in message(SET_PROTOCOL_FEATURES, number(REPLY_ACK)) + message(GET_QUEUE_NUM):
        front.send(bytes((byte,)))
    assert struct.unpack("=Q", front.reply(GET_QUEUE_NUM))[0] >= 32


@test
def messages_in_one_write_are_answered_in_order(case):
    _, front = started(case)
    wanted = (GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_MAX_MEM_SLOTS) * 20
    front.send(b"".join(map(message, wanted)))
    for request in wanted:
        assert len(front.reply(request)) == 8


@test
def descriptors_are_those_of_the_message_that_they_come_with(case):
    daemon, front = started(case)
    front.negotiate()
    before = daemon.fds()
    for n in range(20):  # none is waited for
        fd = memory(case)[0]
        front.send(message(SET_OWNER))
        front.send(message(ADD_MEM_REG, number(0) + region(n << 24), VERSION | NEED_REPLY), [fd])
        front.send(message(GET_QUEUE_NUM))
    for n in range(20):
        assert front.reply(ADD_MEM_REG) == number(0), n
        front.reply(GET_QUEUE_NUM)
    for n in range(20):
        assert front.acknowledged(REM_MEM_REG, number(0) + region(n << 24)), n
    assert daemon.fds() == before


@test
def descriptors_may_come_with_the_payload(case):
    _, front = started(case)
    front.negotiate()
    whole = message(SET_MEM_TABLE, struct.pack("=II", 2, 0) + region(0) + region(1 << 24), VERSION | NEED_REPLY)
    front.send(whole[:12])
    front.send(whole[12:], memory(case, 2))
    assert front.reply(SET_MEM_TABLE) == number(0)


@rows(("descriptors that nobody asked for are closed", 8), ("descriptors that are too many end the connection", 64))
def _(case, n):
    daemon, front = started(case)
    front.negotiate()
    before = daemon.fds()
    front.send(message(GET_QUEUE_NUM), memory(case, n))
    if n > 8:
        assert front.is_ended()
        before -= 1  # its connection
    else:
        front.reply(GET_QUEUE_NUM)
    wait_for(lambda: daemon.fds() <= before, "no descriptor stays")
    if n > 8:
        assert FrontEnd(case, daemon).lives()


@rows(("a request of another version ends the connection", message(GET_FEATURES, flags=2)),
      ("a payload that is too long ends the connection", struct.pack("=III", GET_FEATURES, VERSION, 1 << 20)),
      ("a payload that is cut ends the connection", message(SET_FEATURES, b"1234")),
      ("a base of no ring ends the connection", message(GET_VRING_BASE, struct.pack("=II", 9999, 0))))
def _(case, data):
    daemon, front = started(case)
    front.negotiate()
    front.send(data)
    assert front.is_ended()
    daemon.wait_log("the front-end broke the protocol, disconnecting")
    assert FrontEnd(case, daemon).negotiate().lives()


@test
def a_request_that_was_not_offered_is_refused_and_costs_nothing_else(case):
    _, front = started(case)
    front.negotiate()
    for request in (GET_CONFIG, POSTCOPY_ADVISE, GET_INFLIGHT_FD, 100, 0, 0xffffffff):
        assert not front.acknowledged(request, number(0)), request
        front.send(message(request, number(0)))  # without an answer, but for who would wait for one
        if request == GET_CONFIG:
            assert front.reply(GET_CONFIG) == bytes(12)
    assert front.acknowledged(RESET_OWNER) and front.lives()


@test
def the_logs_memory_is_acknowledged_with_and_without_being_asked_for(case):
    _, front = started(case)
    front.negotiate()
    for flags in (VERSION, VERSION | NEED_REPLY):
        front.send(message(SET_LOG_BASE, struct.pack("=QQ", 4096, 0), flags), memory(case))
        assert front.reply(SET_LOG_BASE) == number(0)
    assert front.lives()


@test
def a_second_front_end_is_turned_away_and_the_first_goes_on(case):
    daemon, front = started(case)
    front.negotiate()
    assert FrontEnd(case, daemon).is_ended()
    assert front.lives()
    front.sock.close()
    assert FrontEnd(case, daemon).negotiate().lives()


@test
def a_front_end_for_which_no_descriptor_is_left_is_turned_away(case):
    daemon, front = started(case, "--runas", "0")  # so that its limit is ours to change
    front.negotiate()
    used = {int(name) for name in os.listdir("/proc/%d/fd" % daemon.pid)}
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (max(used) + 1, limits[1]))
    kick = os.eventfd(0)
    for ring in range(max(used) + 1 - len(used)):  # the numbers that are free below it
        front.send(message(SET_VRING_KICK, number(ring)), (kick,))
    os.close(kick)
    assert front.lives()
    assert FrontEnd(case, daemon).is_ended() and FrontEnd(case, daemon).is_ended()
    assert front.lives()
    assert daemon.counters()["drop-fd-limit"] == 2
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    front.sock.close()
    assert FrontEnd(case, daemon).negotiate().lives()


@rows(("a front-end that stops inside a header holds up nothing", 5), ("a front-end that stops inside a payload holds up nothing", 15))
def _(case, length):
    daemon, front = started(case)
    front.send(message(SET_FEATURES, number(0))[:length], memory(case))
    assert daemon.counters()
    assert FrontEnd(case, daemon).is_ended()  # the first is still there
    front.sock.close()
    assert FrontEnd(case, daemon).negotiate().lives()


@test
def one_front_end_is_served_where_one_off_asks_for_it(case):
    daemon, front = started(case, "--one-off")
    assert front.negotiate().lives()
    front.sock.close()
    assert daemon.wait() == 0


@test
def a_connected_descriptor_is_served(case):
    ours, theirs = socket.socketpair()
    daemon = case.start("--vhost-user", "--fd", theirs.fileno(), pass_fds=(theirs.fileno(),))
    theirs.close()
    front = FrontEnd(case, daemon, ours)
    assert front.negotiate().lives()
    ours.close()
    assert daemon.wait() == 0


@test
def the_back_ends_own_name_and_a_path_are_enough(case):
    """As management tools start what the description file names."""
    with open(os.path.join(os.path.dirname(Options.taploom), "50-taploom.json")) as file:
        description = json.load(file)
    assert description["type"] == "net" and description["description"]
    name, path = os.path.basename(description["binary"]), case.path("socket")
    daemon = Daemon(case, (case.program(name), "--socket-path=" + path))
    case.daemons.append(daemon)
    wait_for(lambda: os.path.exists(path), "the socket is there")
    daemon.socket = path
    assert FrontEnd(case, daemon).negotiate().lives()
    assert daemon.running()


if __name__ == "__main__":
    sys.exit(main())
