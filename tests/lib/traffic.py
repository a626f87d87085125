#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Servers and clients of the tests.

As a program, `traffic.py PORT [--data BYTES] [--dns NAME=IPV4,IPV6]`, it serves on PORT over IPv4
and IPv6 and prints "ready". TCP takes one line:

    echo TEXT  answers TEXT
    peer       answers the address that the client has here
    get N      sends the first N bytes of DATA
    put N      reads N bytes, answers their SHA-256 in hexadecimal

UDP sends each datagram back. With --dns, port 53 answers for NAME over UDP and TCP.
"""

import argparse
import errno
import hashlib
import ipaddress
import random
import socket
import socketserver
import struct
import threading

LINE_MAX = 200
CHUNK = 1 << 20
DNS_A, DNS_AAAA = 1, 28
DATAGRAM_MAX = 65536


def data(size):
    """The bytes that `get` sends: they look random, and are the same in each process."""
    return random.Random(1).randbytes(size)


def data_sum(size):
    """SHA-256 of data(size) in hexadecimal."""
    return hashlib.sha256(data(size)).hexdigest()


def _plain(address):
    """An address without its scope, and an IPv4-mapped one as IPv4."""
    parsed = ipaddress.ip_address(address.split("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


class _TcpHandler(socketserver.StreamRequestHandler):
    def handle(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            line = self.rfile.readline(LINE_MAX).decode("ascii", "replace")
            verb, _, argument = line.strip().partition(" ")
            self.ANSWERS.get(verb, _TcpHandler.unknown)(self, argument)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client went away; it will say so

    def echo(self, text):
        self.wfile.write(text.encode() + b"\n")

    def peer(self, _):
        self.wfile.write(_plain(self.client_address[0]).encode() + b"\n")

    def get(self, size):
        self.request.sendall(memoryview(self.server.data)[:int(size)])

    def put(self, size):
        digest, left = hashlib.sha256(), int(size)
        while left:
            chunk = self.rfile.read1(min(left, CHUNK))
            if not chunk:
                break
            digest.update(chunk)
            left -= len(chunk)
        self.wfile.write(digest.hexdigest().encode() + b"\n")

    def unknown(self, _):
        self.wfile.write(b"unknown request\n")

    ANSWERS = {"echo": echo, "peer": peer, "get": get, "put": put}


class _TcpServer(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
    data = b""


def _udp_socket(port):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("::", port))
    return sock


def _serve_datagrams(sock, answer_of):
    while True:
        try:
            payload, peer = sock.recvfrom(DATAGRAM_MAX)
            answer = answer_of(payload)
            if answer is not None:
                sock.sendto(answer, peer)
        except OSError:
            continue  # an ICMP error of an earlier datagram


def dns_answer(query, zone):
    """The answer to a query (RFC 1035, section 4); zone: {name: {type: address bytes}}."""
    if len(query) < 12:
        return None
    labels, offset = [], 12
    while offset < len(query) and query[offset]:
        labels.append(query[offset + 1:offset + 1 + query[offset]].decode("ascii", "replace"))
        offset += 1 + query[offset]
    question = query[12:offset + 5]
    if len(query) < offset + 5:
        return None
    (kind,) = struct.unpack_from("!H", query, offset + 1)
    records = zone.get(".".join(labels).lower())
    answers = b""
    if records and kind in records:
        # 0xc00c points to the name in the question.
        answers = struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(records[kind])) + records[kind]
    flags = 0x8580 if records else 0x8583  # authoritative, and "no such name"
    return query[:2] + struct.pack("!HHHHH", flags, 1, 1 if answers else 0, 0, 0) + question + answers


class _DnsTcpHandler(socketserver.StreamRequestHandler):
    def handle(self):
        (length,) = struct.unpack("!H", self.rfile.read(2))
        answer = dns_answer(self.rfile.read(length), self.server.zone)
        if answer:
            self.wfile.write(struct.pack("!H", len(answer)) + answer)


def _zone_of(text):
    name, _, addresses = text.partition("=")
    v4, v6 = addresses.split(",")
    return {name: {DNS_A: ipaddress.ip_address(v4).packed, DNS_AAAA: ipaddress.ip_address(v6).packed}}


def _in_background(function, *arguments):
    threading.Thread(target=function, args=arguments, daemon=True).start()


def serve(port, size, names):
    """Runs the servers until the process ends."""
    server = _TcpServer(("::", port), _TcpHandler)
    server.data = data(size)
    _in_background(_serve_datagrams, _udp_socket(port), lambda payload: payload)
    if names:
        zone = _zone_of(names)
        _in_background(_serve_datagrams, _udp_socket(53), lambda query: dns_answer(query, zone))
        dns = _TcpServer(("::", 53), _DnsTcpHandler)
        dns.zone = zone
        _in_background(dns.serve_forever)
    print("ready", flush=True)
    server.serve_forever()


def exchange(proto, address, port, payload, seconds=10):
    """
    Sends payload and returns what comes back; proto: tcp4, tcp6, udp4 or udp6.

    TCP: payload, then end of file; all until the peer's. UDP: one datagram each way.
    """
    family = socket.AF_INET if proto.endswith("4") else socket.AF_INET6
    kind = socket.SOCK_STREAM if proto.startswith("tcp") else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(seconds)
        sock.connect((address, port))
        if kind == socket.SOCK_DGRAM:
            try:
                sock.send(payload)
                return sock.recv(DATAGRAM_MAX)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
            sock.send(payload)  # the path's MTU is known now: the kernel fragments
            return sock.recv(DATAGRAM_MAX)
        sock.sendall(payload)
        sock.shutdown(socket.SHUT_WR)
        received = []
        while chunk := sock.recv(CHUNK):
            received.append(chunk)
        return b"".join(received)


def main():
    parser = argparse.ArgumentParser(description="servers of the tests")
    parser.add_argument("port", type=int)
    parser.add_argument("--data", type=int, default=0)
    parser.add_argument("--dns", default="")
    options = parser.parse_args()
    serve(options.port, options.data, options.dns)


if __name__ == "__main__":
    main()
