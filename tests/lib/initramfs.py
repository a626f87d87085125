# SPDX-License-Identifier: Apache-2.0
"""
Builds the initial RAM file system of the test guest: a static busybox, the few kernel modules that
a virtio network card needs, a DHCPv6 client, ethtool, socat, and the files of tests/net/guest.

The kernel is that of Debian's linux-image-cloud-amd64, as no machine here has to run it. The
archive ("newc", kernel documentation driver-api/early-userspace/buffer-format) is written here, as
it must hold device nodes and root-owned files whoever builds it.
"""

import glob
import os
import re
import stat
import subprocess

GUEST_FILES = os.path.join(os.path.dirname(__file__), "..", "net", "guest")
MODULES = ("virtio_pci", "virtio_net", "virtio_rng")
PROGRAMS = ("/sbin/dhclient", "/sbin/ethtool", "/usr/bin/socat")
DIRECTORIES = ("bin", "dev", "etc", "guest", "lib", "lib64", "modules", "proc", "run", "sys", "tmp",
               "usr", "usr/bin", "sbin", "var", "var/lib", "var/lib/dhcp", "var/run", "root")


class ImageError(Exception):
    """A package that the guest is made of is not installed."""


class Cpio:
    """An archive under construction; add() in the order in which the kernel shall unpack it."""

    def __init__(self):
        self.chunks = []
        self.inode = 0

    def add(self, name, mode, content=b"", rdev=(0, 0)):
        self.inode += 1
        path = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, *rdev, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self.chunks.append(_padded(header + path))
        self.chunks.append(_padded(content))

    def directory(self, name):
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name, content, executable=False):
        self.add(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def bytes(self):
        end = Cpio()
        end.add("TRAILER!!!", 0)
        return b"".join(self.chunks + end.chunks)


def _padded(data):
    return data + b"\0" * (-len(data) % 4)


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def kernel():
    """Path and version of the newest installed kernel of linux-image-cloud-amd64."""
    found = sorted(glob.glob("/boot/vmlinuz-*-cloud-amd64"), key=os.path.getmtime)
    if not found:
        raise ImageError("no kernel for the guest: install linux-image-cloud-amd64")
    return found[-1], os.path.basename(found[-1]).removeprefix("vmlinuz-")


def module_files(version):
    """Files of MODULES and of what they depend on, in the order in which they are loaded."""
    base = f"/lib/modules/{version}"
    depends = {}
    with open(f"{base}/modules.dep", encoding="utf-8") as file:
        for line in file:
            path, _, needs = line.partition(":")
            name = re.sub(r"\.ko.*", "", os.path.basename(path)).replace("-", "_")
            depends[name] = (path, needs.split())
    ordered = []
    for name in MODULES:
        if name not in depends:  # built into the kernel
            continue
        path, needs = depends[name]
        for needed in reversed(needs):
            if needed not in ordered:
                ordered.append(needed)
        if path not in ordered:
            ordered.append(path)
    return [f"{base}/{path}" for path in ordered]


def libraries(program):
    """The dynamic linker and the shared libraries of a program."""
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"(/\S+) \(0x", listing)))


def _add_programs(archive, programs):
    busybox = "/bin/busybox"
    if not os.path.exists(busybox):
        raise ImageError("no busybox for the guest: install busybox-static")
    archive.file("bin/busybox", _read(busybox), executable=True)
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout
    for applet in applets.split():
        if applet != "busybox":
            archive.link(f"bin/{applet}", "busybox")
    shared = set()
    for program in programs:
        if not os.path.exists(program):
            raise ImageError(f"no {program} for the guest: install isc-dhcp-client, ethtool and socat, or build it")
        archive.file(f"sbin/{os.path.basename(program)}", _read(program), executable=True)
        shared.update(libraries(program))
    for library in sorted(shared):
        # The dynamic linker has its path in each program, the libraries are searched for.
        folder = "lib64" if "/ld-linux" in library else "lib"
        archive.file(f"{folder}/{os.path.basename(library)}", _read(library), executable=True)


def _add_guest_files(archive):
    for name in sorted(os.listdir(GUEST_FILES)):
        if name.endswith(".sh"):
            archive.file(f"guest/{name}", _read(os.path.join(GUEST_FILES, name)), executable=True)
    archive.link("init", "guest/init.sh")


def build(path, settings, programs=()):
    """
    Writes an archive to path.

    settings: a dict of shell variables for the guest, which init sources from /etc/guest.conf.
    programs: paths of further programs, which the guest finds in its /sbin.
    Returns the path of the kernel to boot with it.
    """
    image, version = kernel()
    archive = Cpio()
    for name in DIRECTORIES:
        archive.directory(name)
    archive.add("dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
    _add_programs(archive, (*PROGRAMS, *programs))
    order = []
    for file in module_files(version):
        archive.file(f"modules/{os.path.basename(file)}", _read(file))
        order.append(os.path.basename(file))
    archive.file("modules/order", ("\n".join(order) + "\n").encode())
    _add_guest_files(archive)
    lines = [f"{name}='{value}'\n" for name, value in settings.items()]
    archive.file("etc/guest.conf", "".join(lines).encode())
    with open(path, "wb") as file:
        file.write(archive.bytes())
    return image
