# SPDX-License-Identifier: Apache-2.0
"""
Congestion control of namespaces: a namespace may take only what the machine allows to all, so what
isn't allowed is allowed for the moment in which it is taken.
"""
import contextlib
import fcntl

ALLOWED = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"


@contextlib.contextmanager
def allowed(name):
    with open(ALLOWED, "r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = file.read().split()
        if name not in before:
            _write(" ".join([*before, name]))
        try:
            yield
        finally:
            if name not in before:
                _write(" ".join(before))


def _write(text):
    with open(ALLOWED, "w", encoding="ascii") as file:
        file.write(text)
