# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirtd of one's own: real QEMU and libvirt's simulator, with nothing of it visible to the rest of the machine.

libvirtd sees its own /etc/libvirt, /var/lib/libvirt, /var/log/libvirt and /run (a mount namespace) and its own
processes (a PID namespace): when it ends, every QEMU that it started ends with it. The directories lie below one
directory, so tests can look at them, and the socket there is what they connect to.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time
import typing as t

import libvirt

_LIBVIRTD_CONF = """
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_dir = "{sockets}"
log_outputs = "3:file:{base}/libvirtd.log"
host_uuid_source = "machine-id"
"""

#: No sVirt, no cgroups, no virtlogd: none of them is there on a machine without systemd.
_QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
"""

_USERS = {
    "passwd": "libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin\n",
    "group": "libvirt-qemu:x:64055:\nkvm:x:64056:\n",
}

_BINDS = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
    "run": "/run",
}


class PrivateLibvirtd:
    """`qemu_uri` and `test_uri` lead to it; `pool` is the directory of a started storage pool called `local`."""

    def __init__(self, base: pathlib.Path) -> None:
        self.base = base
        self.sockets = base / "sockets"
        self.pool = base / "pool"
        self.logs = base / "log" / "qemu"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def qemu_uri(self) -> str:
        return f"qemu+unix:///system?socket={self.sockets}/libvirt-sock"

    @property
    def test_uri(self) -> str:
        return f"test+unix:///default?socket={self.sockets}/libvirt-sock"

    def start(self) -> None:
        for folder in (*_BINDS, "log/qemu", "sockets", "pool"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        (self.base / "etc/libvirtd.conf").write_text(_LIBVIRTD_CONF.format(base=self.base, sockets=self.sockets))
        (self.base / "etc/qemu.conf").write_text(_QEMU_CONF)
        for name, line in _USERS.items():
            (self.base / name).write_text(pathlib.Path("/etc", name).read_text() + line)
        mounts = [f"mkdir -p {target} && mount --bind {self.base}/{name} {target}" for name, target in _BINDS.items()]
        mounts += [f"mount --bind {self.base}/{name} /etc/{name}" for name in _USERS]
        # The shell stays as the namespace's first process: it buries the QEMUs that libvirtd leaves to it.
        script = " && ".join([*mounts, "{ libvirtd -f /etc/libvirt/libvirtd.conf -p /run/libvirtd.pid & wait $!; }"])
        self._process = subprocess.Popen(
            # It dies with the tests, also when they are killed.
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            + ["sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=(self.base / "out").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()
        self._define_pool()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        process = t.cast("subprocess.Popen[bytes]", self._process)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"libvirtd ended: {(self.base / 'out').read_text()}")
            with contextlib.suppress(libvirt.libvirtError):
                libvirt.open(self.qemu_uri).close()
                return
            time.sleep(0.1)
        raise RuntimeError(f"libvirtd does not answer: {(self.base / 'libvirtd.log').read_text()[-2000:]}")

    def _define_pool(self) -> None:
        with contextlib.closing(libvirt.open(self.qemu_uri)) as connection:
            xml = f"<pool type='dir'><name>local</name><target><path>{self.pool}</path></target></pool>"
            connection.storagePoolDefineXML(xml).create()

    def stop(self) -> None:
        """End it and every QEMU of it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        shutil.rmtree(self.base, ignore_errors=True)

    def clear(self) -> None:
        """Remove all domains and files, so that the next test begins with nothing."""
        self.clear_guests()
        shutil.rmtree(self.pool / "builds", ignore_errors=True)

    def clear_guests(self) -> None:
        """The same, but builds stay."""
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        for uri, extra in ((self.qemu_uri, libvirt.VIR_DOMAIN_UNDEFINE_NVRAM), (self.test_uri, 0)):
            with contextlib.closing(libvirt.open(uri)) as connection:
                for domain in connection.listAllDomains():
                    if domain.isActive():
                        domain.destroy()
                    with contextlib.suppress(libvirt.libvirtError):  # a transient one is gone by now
                        domain.undefineFlags(flags | extra)
        for log in self.logs.iterdir():
            log.unlink()
        for entry in self.pool.iterdir():
            if entry.name == "builds":
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def bridge(name: str) -> None:
    """Make a bridge that leads nowhere."""
    if not os.path.isdir(f"/sys/class/net/{name}"):
        subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)


def no_bridge(name: str) -> None:
    subprocess.run(["ip", "link", "delete", name], check=True)
