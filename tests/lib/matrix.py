# SPDX-License-Identifier: Apache-2.0
"""A transfer between two namespaces, with its SHA-256 compared: plain sockets of real kernels."""
import hashlib
import random
import socket
import threading

CHUNK = random.Random(1).randbytes(1 << 20)


def _send(sock, size, digest):
    sent = 0
    while sent < size:
        piece = CHUNK[:min(len(CHUNK), size - sent)]
        sock.sendall(piece)
        digest.update(piece)
        sent += len(piece)
    sock.shutdown(socket.SHUT_WR)


def _receive(sock, digest):
    buffer, total = bytearray(1 << 20), 0
    while True:
        n = sock.recv_into(buffer)
        if n == 0:
            return total
        digest.update(memoryview(buffer)[:n])
        total += n


def transfer(case, guest, addr, size, upload, timeout=120):
    """size bytes from the guest's namespace to a server in the remote one, or back; they must be the same."""
    server = case.net.remote.tcp_server(addr)
    server.settimeout(timeout)
    client = guest.ns.tcp_client(addr, server.getsockname()[1], timeout=timeout)
    peer, _ = server.accept()
    server.close()
    peer.settimeout(timeout)
    source, sink = (client, peer) if upload else (peer, client)
    sent, received, failures = hashlib.sha256(), hashlib.sha256(), []

    def feed():
        try:
            _send(source, size, sent)
        except OSError as error:
            failures.append(error)
    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        total = _receive(sink, received)
    finally:
        thread.join(timeout)
        client.close()
        peer.close()
    assert not failures, failures
    assert total == size, "%d of %d bytes came" % (total, size)
    assert sent.digest() == received.digest(), "the SHA-256 differs"
