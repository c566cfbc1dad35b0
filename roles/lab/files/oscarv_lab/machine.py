# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HostOS: its files, and the systemd-nspawn process that runs it."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import typing as t
import uuid

from . import cgroup, sshkeys
from .base import LabError, boot_id, read_json, write

#: Device nodes that a hypervisor may want. /dev/kvm proves nothing: it may be there and not work.
DEVICES = ("/dev/net/tun", "/dev/kvm", "/dev/vhost-net", "/dev/fuse", "/dev/loop-control")
#: Loop devices are the kernel's, not a machine's: every HostOS needs a node for whichever it is given.
#: So many containers' disks can be mounted on this computer at once.
LOOPS = 64
#: systemd-machined takes a process for a machine's by its control group, and finds none for libvirt's containers in the
#: groups of a HostOS that is a container itself. Without it libvirt makes the groups by its own hand.
NO_MACHINED = "path-exclude=/usr/share/dbus-1/system-services/org.freedesktop.machine1.service\n"

#: Runs as the process of a HostOS: its root file system, then nspawn, and again when that says (133) that it reboots.
RUN = """
mount -t overlay oscarv-lab -o "$1" "$2" || exit
shift 2
while :; do
  sh -c 'echo $$ > "$0" && exec "$@"' "$0" "$@"
  code=$?
  [ $code -eq 133 ] || exit $code
done
"""
LOOPBACK = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
#: Between these, /etc/hosts names the lab's HostOSes; libvirt's migration asks for the other one by name.
BEGIN, END = "# HostOSes of this lab", "# end of the HostOSes of this lab"


@dataclasses.dataclass(frozen=True)
class Machine:
    """A HostOS of a lab."""

    lab: str
    directory: pathlib.Path  #: the lab's
    name: str
    address: ipaddress.IPv4Interface
    gateway: str
    bridge: str
    rootfs: pathlib.Path
    nameservers: tuple[str, ...]

    @property
    def home(self) -> pathlib.Path:
        return self.directory / "hosts" / self.name

    @property
    def group(self) -> str:
        return f"{self.lab}/{self.name}"

    def running(self) -> bool:
        """Whether the very process that was started for this HostOS runs."""
        record = read_json(self.home / "process.json")
        return bool(record) and record["boot_id"] == boot_id() and record["start_time"] == start_time(record["pid"])

    def prepare(self, names: t.Sequence[str], packages: pathlib.Path) -> None:
        """Make the HostOS's own layer, whole or not at all. An existing one is kept: it is the machine's disk."""
        self.home.parent.mkdir(mode=0o700, exist_ok=True)  # old set-uid programs are nothing for everybody
        (self.home / "root").mkdir(parents=True, exist_ok=True)
        (self.home / "work").mkdir(exist_ok=True)
        if (self.home / "upper").exists():
            return
        new = self.home / "upper.new"
        if new.exists():
            shutil.rmtree(new)
        for path, (text, mode) in self._files(names).items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            write(new / path, text, mode)
        (new / "root").chmod(0o700)
        (new / "root/.ssh").chmod(0o700)
        link_packages(packages, new / "var/cache/apt/archives")
        new.replace(self.home / "upper")

    def _files(self, names: t.Sequence[str]) -> dict[str, tuple[str, int]]:
        keys = sshkeys.Keys(self.directory)
        network = (
            f"[Match]\nName=host0\n\n[Network]\nAddress={self.address}\nGateway={self.gateway}\n"
            # Nobody sends router advertisements here; waiting for them costs 13 s at boot.
            "IPv6AcceptRA=no\nLinkLocalAddressing=no\n"
        )
        return {
            "etc/hostname": (f"{self.name}\n", 0o644),
            "etc/machine-id": (f"{uuid.uuid4().hex}\n", 0o444),
            "etc/hosts": (LOOPBACK + _block(names), 0o644),
            "etc/resolv.conf": ("".join(f"nameserver {x}\n" for x in self.nameservers), 0o644),
            "etc/systemd/network/50-host0.network": (network, 0o644),
            "etc/dpkg/dpkg.cfg.d/oscarv-lab": (NO_MACHINED, 0o644),
            "etc/tmpfiles.d/oscarv-lab.conf": (
                "".join(f"b /dev/loop{i} 0600 root root - 7:{i}\n" for i in range(LOOPS)),
                0o644,
            ),
            "etc/ssh/ssh_host_ed25519_key": (keys.host_private(self.name), 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (keys.host_public(self.name) + "\n", 0o644),
            "root/.ssh/authorized_keys": (keys.user_public() + "\n", 0o600),
        }

    def knows(self, names: t.Sequence[str]) -> bool:
        """Whether the running HostOS can resolve the others; yes where somebody has made /etc/hosts his own."""
        text = self._hosts_file().read_text()
        return _block(names) in text or BEGIN not in text or END not in text

    def tell(self, names: t.Sequence[str]) -> None:
        before, _begin, rest = self._hosts_file().read_text().partition(BEGIN)
        self._hosts_file().write_text(before + _block(names) + rest.partition(f"{END}\n")[2])

    def _hosts_file(self) -> pathlib.Path:
        """Seen from within: what is below a mounted overlay must not be written from outside."""
        pid = read_json(self.home / "process.json")["pid"]
        return pathlib.Path(f"/proc/{pid}/root{self.home}/root/etc/hosts")

    def start(self, lock: int) -> subprocess.Popen[bytes]:
        """Start the HostOS in a session of its own, so that it outlives whoever called.

        The child inherits the lab's lock until its process is written down: a lab that is killed right now
        is not touched by the next run before that.
        """
        cgroup.kill(self.group)  # what an nspawn that was killed may have left
        self._unplug()
        with open(self.home / "console.log", "wb") as console:
            return subprocess.Popen(
                [sys.executable, "-B", "-m", __package__, "machine", str(lock), json.dumps(self.plain())],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                pass_fds=(lock,),
            )

    def become(self, lock: int) -> t.NoReturn:
        """In the child: write down who we are, enter our groups, and become what runs the HostOS (same process)."""
        record = {"pid": os.getpid(), "start_time": start_time(os.getpid()), "boot_id": boot_id()}
        door = cgroup.enter(self.group)
        write(self.home / "process.json", json.dumps(record))
        os.close(lock)
        # The overlay is mounted in a mount namespace of the machine's own: it can never be left behind.
        overlay = f"lowerdir={self.rootfs},upperdir={self.home}/upper,workdir={self.home}/work"
        nspawn = [
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.home}/root", "--register=no", "--keep-unit"),
            *(f"--machine={self.lab}-{self.name}", f"--hostname={self.name}", f"--network-bridge={self.bridge}"),
            *("--capability=all", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            *(f"--bind={x}" for x in DEVICES if pathlib.Path(x).exists()),
        ]
        # No image lock: the lab has its own, and nspawn would leave the files of its one behind.
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SYSTEMD_NSPAWN_LOCK": "0",
        }
        os.execvpe(
            "unshare",
            [
                "unshare",
                "-m",
                "--propagation",
                "private",
                "sh",
                "-c",
                RUN,
                str(door),
                overlay,
                f"{self.home}/root",
                *nspawn,
            ],
            environment,
        )

    def _unplug(self) -> None:
        """Remove the link of an nspawn that was killed: the kernel may take its time, and a new one would be refused.

        nspawn shortens long names, and keeps the whole one as an alternative name.
        """
        words = ["ip", "link", "delete", f"vb-{self.lab}-{self.name}"]
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def wait(self, process: t.Optional[subprocess.Popen[bytes]], timeout: float) -> None:
        """Wait until sshd answers. LabError when the machine ends or stays silent for `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not answers(str(self.address.ip)):
            if process is not None and process.poll() is not None:
                raise LabError(f"{self.name}: systemd-nspawn ended with code {process.returncode}: {self._said()}")
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: no ssh at {self.address.ip} within {timeout:g} s: {self._said()}")
            time.sleep(0.2)

    def _said(self) -> str:
        log = self.home / "console.log"
        return f"{log} ends with: {log.read_text(errors='replace')[-1500:].strip()}"

    def plain(self) -> dict[str, t.Any]:
        data = dataclasses.asdict(self)
        return {**data, **{x: str(data[x]) for x in ("directory", "address", "rootfs")}}

    @classmethod
    def from_plain(cls, data: t.Mapping[str, t.Any]) -> Machine:
        return cls(
            **{
                **data,
                "directory": pathlib.Path(data["directory"]),
                "rootfs": pathlib.Path(data["rootfs"]),
                "address": ipaddress.IPv4Interface(data["address"]),
                "nameservers": tuple(data["nameservers"]),
            }
        )


def start_time(pid: int) -> t.Optional[int]:
    """When a process began (clock ticks since boot), which with its number names it for ever; None if it is gone."""
    try:
        state, *fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in ("Z", "X") else int(fields[18])


def answers(address: str) -> bool:
    """Whether an sshd greets at the address."""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            connection.settimeout(5)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _block(names: t.Sequence[str]) -> str:
    return "\n".join([BEGIN, *names, END, ""])


def link_packages(source: pathlib.Path, target: pathlib.Path) -> None:
    """Hard-link the package files of one apt archive into another; apt checks their hashes before it uses them.

    Each HostOS thus has an archive (and apt's lock) of its own, and nothing is fetched or stored twice.
    """
    target.mkdir(parents=True, exist_ok=True)
    for package in sorted(source.glob("*.deb")) if source.exists() else []:
        with contextlib.suppress(FileExistsError):  # also where another HostOS gives it just now
            os.link(package, target / package.name)


def discard(home: pathlib.Path) -> None:
    """Remove a HostOS's files. Its disk gives up its name first: half a disk must never be started again."""
    shutil.rmtree(home / "upper.new", ignore_errors=True)
    if (home / "upper").exists():
        (home / "upper").replace(home / "upper.new")
    shutil.rmtree(home)


def forget(machine_name: str) -> None:
    """Remove the folders that nspawn leaves under /run when it does not end by itself, and those that stand empty."""
    run = pathlib.Path("/run/systemd/nspawn")
    for kind in ("propagate", "unix-export", "locks", ""):
        for folder in (run / kind / machine_name, run / kind):
            with contextlib.suppress(OSError):  # not there, or others' machines are in it
                folder.rmdir()
