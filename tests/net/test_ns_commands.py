#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# labels: net
# timeout: 300
"""A command or a shell in a namespace of its own: its streams, its terminal, its end; and starts that cannot succeed."""
import os
import pty
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
from netns import FAR4, FAR6, HOST4, HOST6
from nsguest import ended
from suite import main, rows, test, wait_for

USER = 61234  # an ordinary user, whom no file names
AS_USER = ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups")
NONE = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")


def pasta(case, *words, before=AS_USER):
    return case.net.host.command(*before, case.program("pasta"), "--config-net", *NONE, *words)


def run(case, *words, before=AS_USER, stdin=None, env=None):
    """Runs it to its end: (status, output, errors)."""
    done = subprocess.run(pasta(case, *words, before=before), capture_output=True, text=True, timeout=30,
                          input=stdin or "", env=dict(os.environ, **(env or {})))
    return done.returncode, done.stdout, done.stderr


@rows(("an ordinary user's command pings the host's network", AS_USER), ("root's command pings the host's network", ()))
def _(case, before):
    for far in (FAR4, FAR6):
        status, out, err = run(case, "-q", "--", "ping", "-c1", "-W5", far, before=before)
        assert status == 0, (out, err)


@test
def the_commands_input_and_output_are_ours(case):
    status, out, err = run(case, "-q", "--", "sh", "-c", "cat; echo wrong >&2", stdin="bytes\n" * 20000)
    assert (status, out, err) == (0, "bytes\n" * 20000, "wrong\n"), (status, len(out), err)


@test
def the_command_keeps_directory_and_environment(case):
    status, out, err = run(case, "-q", "--", "sh", "-c", "pwd; echo $FOO", env={"FOO": "bar"})
    assert (status, out) == (0, os.getcwd() + "\nbar\n"), (status, out, err)


@test
def without_a_command_there_is_the_users_shell(case):
    status, out, err = run(case, "-q", env={"SHELL": "/bin/sh"}, stdin="id -u; ip -4 -br addr show h0; exit 3\n")
    assert status == 3 and out.startswith("0\n") and HOST4 in out, (status, out, err)


@test
def a_shell_that_is_not_there_is_replaced(case):
    assert run(case, "-q", env={"SHELL": "/no/such/shell"}, stdin="exit 4\n")[0] == 4


@rows(("a file that cannot be executed gives 126", "/etc/passwd", 126), ("a file that is not there gives 127", "/no/such", 127))
def _(case, path, status):
    got, out, err = run(case, "-q", "--", path)
    assert got == status and path in err and len(err.splitlines()) == 1, (got, out, err)


@test
def pasta_runs_inside_pasta(case):
    server = case.net.remote.tcp_server(FAR4)
    status, out, err = run(case, "-q", "--", case.program("pasta"), "--config-net", *NONE, "-q", "--", "bash", "-c",
                           "ip -4 -br addr show h0; echo hi >/dev/tcp/%s/%d; exit 5" % (FAR4, server.getsockname()[1]))
    assert status == 5 and HOST4 in out, (status, out, err)
    assert server.accept()[0].recv(10) == b"hi\n"


@test
def inside_a_user_namespace_it_works_as_everywhere(case):
    status, out, err = run(case, "-q", "--", "sh", "-c", "id -u; ip -br addr; exit 6", before=AS_USER + ("unshare", "-Ur"))
    assert status == 6 and out.startswith("0\n") and HOST4 in out and HOST6 in out and not err, (status, out, err)


@test
def without_a_network_there_is_a_link_local_one(case):
    status, out, err = run(case, "-q", "--", "sh", "-c", "ip -br addr; ip route", before=AS_USER + ("unshare", "-Urn"))
    assert status == 0 and re.search(r"tap0 +\w+ +169\.254\.2\.1/16 fe80::", out), (status, out, err)
    assert "default via 169.254.2.2" in out, out


@test
def netns_only_makes_no_user_namespace(case):
    own = os.readlink("/proc/self/ns/user")
    status, out, err = run(case, "--netns-only", "--runas", "0", "--", "sh", "-c", "readlink /proc/self/ns/user; ip -br addr",
                           before=())
    assert status == 0 and out.startswith(own + "\n") and HOST4 in out, (status, out, err)
    status, out, err = run(case, "--netns-only", "-q", "--", "true")
    assert status == 1 and "network namespace" in err and "not permitted" in err, (status, err)


# Starts that cannot succeed say why, in one line


def fails(case, before, words, *texts):
    status, out, err = run(case, *words, before=before)
    assert status == 1 and not out and len(err.splitlines()) == 1, (status, out, err)
    assert all(text in err for text in texts), err


NO_TUN = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh") + AS_USER
NO_USERNS = AS_USER + ("unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"', "sh")
NO_NETNS = AS_USER + ("unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"', "sh")


@rows(("a machine without /dev/net/tun", NO_TUN, "/dev/net/tun", "No such file"),
      ("a quota of user namespaces that is used up", NO_USERNS, "user.max_user_namespaces", "No space"),
      ("a quota of network namespaces that is used up", NO_NETNS, "user.max_net_namespaces", "No space"))
def _(case, before, *texts):
    fails(case, before, ("-q", "--", "true"), *texts)


@rows(("a process that has ended is named", ("999999999",), "999999999", "No such file"),
      ("a process of another user is named", ("1",), "/proc/1/ns/net", "Permission denied"),
      ("a file that is no namespace is named", ("--netns", "/etc/passwd"), "/etc/passwd is not a network namespace"),
      ("a user namespace that is none is named", ("--netns", "/proc/self/ns/net", "--userns", "/etc/passwd"),
       "/etc/passwd is not a user namespace"),
      ("a command and a namespace contradict each other", ("--netns", "/proc/self/ns/net", "--", "true"), "contradict"),
      ("a user namespace alone is no target", ("--userns", "/proc/self/ns/user", "--", "true"), "--netns"),
      ("an unknown interface is named", ("-i", "nope0", "--", "true"), "nope0"))
def _(case, words, *texts):
    fails(case, AS_USER, ("-q",) + words, *texts)


# The terminal


class Terminal:
    """A command on a pseudo-terminal of its own, in a session of its own."""

    def __init__(self, case, *words):
        argv = pasta(case, *words)
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="$ ", SHELL="/bin/sh", ENV="")
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
            os.execvp(argv[0], argv)
        self.status = None
        case.cleanups.append(self.close)

    def write(self, text):
        os.write(self.fd, text.encode())

    def read(self, pattern):
        """Reads until the pattern matches what came since the last one."""
        def found():
            os.set_blocking(self.fd, False)
            try:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
            except BlockingIOError:
                pass
            except OSError:  # the other side is closed
                assert re.search(pattern, self.text), self.text
            return re.search(pattern, self.text)
        match = wait_for(found, "the terminal shows %r" % pattern, 10)
        self.text = self.text[match.end():]
        return match

    def wait(self):
        def over():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
            return pid
        wait_for(over, "it ends", 10)
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@test
def a_shell_on_a_terminal_has_job_control(case):
    tty = Terminal(case, "-q", "--", "bash", "--norc", "-i")
    tty.write("sh -c \"echo rea''dy; exec sleep 1000\"\n")  # its output says that the job has begun
    tty.read("ready")
    tty.write("\x1a")  # Ctrl-Z stops the job, and the shell goes on
    tty.read("Stopped")
    tty.write("jobs -p | wc -l | sed s/^/jobs-/; kill %1; wait; echo don''e\n")
    tty.read("jobs-1")
    tty.read("done")
    tty.write("sh -c \"echo run''ning; exec sleep 1000\"\n")
    tty.read("running")
    tty.write("\x03")
    tty.write("echo status-$?; exit 7\n")
    tty.read("status-130")
    assert tty.wait() == 7


@rows(("Ctrl-C ends a command that does not mind it", "\x03", "INT", 130),
      ("Ctrl-\\ ends a command that does not mind it", "\x1c", "QUIT", 131))
def _(case, key, name, status):
    tty = Terminal(case, "-q", "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000")
    tty.read("ready")
    tty.write(key)
    assert tty.wait() == status, name


@test
def ctrl_c_is_the_commands_to_handle_on_a_terminal(case):
    tty = Terminal(case, "-q", "--", "bash", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do read -t 1; done")
    tty.read("ready")
    tty.write("\x03")
    tty.read("caught")
    assert tty.wait() == 9


@test
def the_terminals_end_ends_all(case):
    tty = Terminal(case, "-q", "--", "sh", "-c", "trap '' HUP; echo $$ ready; exec sleep 1000")
    pid = int(tty.read(r"(\d+) ready").group(1))
    os.kill(tty.pid, signal.SIGHUP)
    tty.wait()
    wait_for(lambda: ended(pid), "the command has ended", 5)


@test
def a_hang_up_that_the_caller_ignores_ends_nothing(case):
    """nohup(1)."""
    process = subprocess.Popen(("sh", "-c", "trap '' HUP; exec \"$@\"", "sh") + pasta(case, "-q", "--", "sh", "-c", "echo $$; read line; exit 5"),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    case.cleanups.append(process.kill)
    command = int(process.stdout.readline())
    for pid in (process.pid, command):
        os.kill(pid, signal.SIGHUP)
    process.communicate("go on\n", timeout=20)
    assert process.returncode == 5, process.returncode


@rows(("a process's SIGINT is for the command", signal.SIGINT, 130), ("a process's SIGQUIT is too", signal.SIGQUIT, 131))
def _(case, number, status):
    process = subprocess.Popen(pasta(case, "-q", "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000"),
                               stdout=subprocess.PIPE)
    case.cleanups.append(process.kill)
    process.stdout.readline()
    process.send_signal(number)
    assert process.wait(20) == status, process.returncode


@test
def root_without_the_right_to_trace_has_a_namespace_of_its_own(case):
    """As in containers."""
    before = ("setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace")
    status, out, err = run(case, "-q", "--", "ping", "-c1", "-W5", FAR4, before=before)
    assert status == 0, (out, err)


@test
def root_may_have_its_pid_file_in_a_folder_of_its_own(case):
    folder = case.path("roots")
    os.mkdir(folder, 0o755)
    status, out, err = run(case, "-q", "-P", folder + "/pid", "--", "true", before=())
    assert status == 0, (out, err)


@test
def the_command_cannot_trace_us(case):
    script = "import os, ctypes; print(ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0), ctypes.get_errno())"
    status, out, err = run(case, "-q", "--", "python3", "-c", script)
    assert (status, out) == (0, "-1 1\n"), (status, out, err)  # EPERM


def stays_and_ends(case, path, look, end):
    """A daemon that became nobody on a path that nobody may look at, and what makes it look."""
    daemon = subprocess.Popen(pasta(case, "-q", "-f", "--netns", path, before=()))
    case.cleanups.append(daemon.kill)
    wait_for(lambda: HOST4 in subprocess.run(("nsenter", "--net=" + path, "ip", "addr"), capture_output=True, text=True).stdout,
             "the namespace is configured")
    look()
    assert daemon.poll() is None, "it took a path that it may not look at for gone"
    end()
    assert daemon.wait(10) == 0


@test
def a_path_of_a_thread_is_followed_to_its_end(case):
    process = subprocess.Popen(case.net.host.command("unshare", "--net", "sleep", "1000"))
    case.cleanups.append(process.kill)

    def kill():
        process.kill()
        process.wait()
    wait_for(lambda: os.readlink("/proc/%d/ns/net" % process.pid) != os.readlink("/proc/self/ns/net"), "it has its own")
    stays_and_ends(case, "/proc/%d/task/%d/ns/net" % (process.pid, process.pid), lambda: time.sleep(2.5), kill)


@test
def a_path_in_a_folder_of_roots_is_followed_to_its_end(case):
    folder = case.path("roots")
    os.mkdir(folder, 0o700)
    path = folder + "/net"
    open(path, "w").close()
    # Not by ip-netns(8), which has a mount table of its own.
    subprocess.run(("unshare", "--net=" + path, "true"), check=True)

    def remove():
        subprocess.run(("umount", path))
        os.path.exists(path) and os.unlink(path)

    def another():
        open(folder + "/other", "w").close()
        os.unlink(folder + "/other")
        time.sleep(0.5)
    case.cleanups.append(remove)
    stays_and_ends(case, path, another, remove)


@test
def the_log_leaves_the_terminal_to_the_command(case):
    tty = Terminal(case, "--", "sh", "-c", "echo ready; read line; echo got $line")
    tty.read("ready")
    case.net.host.batch("addr add 192.0.2.77/24 dev h0\nlink set h0 down\n")
    case.net.host.batch("link set h0 up\nroute add default via 192.0.2.1\n")
    tty.write("it\n")
    match = tty.read(r"(?s)(.*)got it")
    assert match.group(1).split() == ["it"], match.group(1)
    assert tty.wait() == 0


if __name__ == "__main__":
    sys.exit(main())
