#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a caller hands down without a thought: open descriptors, ignored signals, limits, another daemon's PID file."""
import os
import signal
import select
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from suite import main, test, wait_for


def start(case, pid_file, *options, path=None, **kw):
    return case.run("-s", path or case.path("s"), "-P", pid_file, *options, **kw)


def number_in(path):
    with open(path) as file:
        return int(file.read())


def end(pid):
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not os.path.exists("/proc/%d" % pid), "SIGTERM ends it")


@test
def the_daemon_holds_no_descriptor_of_its_caller(case):
    pid_file = case.pid_file()
    ours, theirs = os.pipe()
    done = start(case, pid_file, pass_fds=(theirs,))
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert select.select([ours], [], [], 5)[0] and os.read(ours, 1) == b"", "the pipe is still open"
    os.close(ours)
    end(number_in(pid_file))


@test
def a_command_gets_the_descriptors_of_the_caller(case):
    ours, theirs = os.pipe()
    done = case.run("--", "sh", "-c", "echo command >&%d" % theirs, name="pasta", pass_fds=(theirs,))
    os.close(theirs)
    assert done.returncode == 0, done.stderr
    assert os.read(ours, 100) == b"command\n" and os.read(ours, 1) == b""
    os.close(ours)


@test
def a_command_gets_the_limit_of_the_caller(case):
    done = case.net.host.run("prlimit", "--nofile=1000:2000", case.program("pasta"), "-q", "--", "sh", "-c", "ulimit -n")
    assert done.stdout == "1000\n", done.stdout


@test
def a_caller_that_ignores_sigchld_gets_the_status_of_its_command(case):
    done = case.net.host.run("sh", "-c", "trap '' CHLD; exec \"$@\"", "sh", case.program("pasta"), "--", "sh", "-c",
                             "exit 7", check=False, timeout=20)
    assert done.returncode == 7, done


@test
def a_start_that_fails_leaves_the_pid_file_of_a_running_daemon(case):
    pid_file, path = case.pid_file(), case.path("s")
    assert start(case, pid_file, path=path).returncode == 0
    pid = number_in(pid_file)
    done = start(case, pid_file, path=path)
    assert done.returncode == 1 and "is in use" in done.stderr, done.stderr
    assert number_in(pid_file) == pid
    end(pid)


@test
def a_pid_file_that_was_there_has_the_new_number_alone(case):
    pid_file = case.pid_file()
    with open(pid_file, "w") as file:
        file.write("1234567890\nold\n")
    assert start(case, pid_file).returncode == 0
    end(number_in(pid_file))


@test
def the_number_may_go_to_a_pipe(case):
    pid_file = case.pid_file()
    os.mkfifo(pid_file)
    fifo = os.open(pid_file, os.O_RDONLY | os.O_NONBLOCK)
    assert start(case, pid_file).returncode == 0
    pid = int(os.read(fifo, 100))
    os.close(fifo)
    os.remove(pid_file)
    end(pid)


if __name__ == "__main__":
    sys.exit(main())
