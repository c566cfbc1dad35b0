# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HostOS as a whole computer in QEMU: with a boot loader, a kernel and a disk of its own.

For what a container cannot show: a role that installs a hypervisor and reboots into it. QEMU emulates (TCG), for the
machines that labs run on often have no virtualisation to give.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import time
import typing as t
import uuid

from . import cgroup, sshkeys
from .base import LabError, run, write
from .machine import Machine, answers, start_time

#: Programs beside those of every lab, as Debian packages.
PACKAGES = ("genisoimage", "qemu-system-x86", "qemu-utils")

#: The CPU. With `max` Xen's dom0 dies at its first return to user space (SMAP) or has its memory corrupted at times;
#: `svm`, which qemu64 has, and `npt` (nested paging) are what PVH and HVM guests of Xen need.
CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+npt"

#: CPUID under Xen and TCG shows no SEP; libvirt then finds no CPU model and does not start. Only for such a machine:
#: after each installation of packages the flag is taken out of the models that come into question.
SCRIPT = "/usr/local/sbin/oscarv-lab-cpu-map"
SCRIPT_TEXT = """#!/bin/sh
for model in x86_qemu64 x86_kvm64 x86_cpu64-rhel5; do
  file=/usr/share/libvirt/cpu_map/$model.xml
  if [ -e $file ]; then sed -i '/name=.sep./d' $file; fi
done
"""
HOOK = f'DPkg::Post-Invoke {{ "{SCRIPT}"; }};\n'
#: As in the root file systems of containers: nothing waits for a disk, and less is unpacked.
DPKG = "force-unsafe-io\n" + "".join(f"path-exclude=/usr/share/{x}/*\n" for x in ("man", "locale", "doc"))
#: A computer boots longer than a container, and longer still where two emulated ones share a processor.
PATIENCE = 5

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


def tap_name(lab: str, host: str) -> str:
    """The name of the host's link on this machine; at most 15 characters, and no other host's."""
    return "lt" + hashlib.sha256(f"{lab}/{host}".encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class QemuMachine(Machine):
    """A HostOS of a lab, in QEMU. `rootfs` is the image that its disk is an overlay on."""

    memory: int = 2048  #: MiB
    processors: int = 1
    apt: str = ""  #: apt's configuration: how this machine reaches its registries
    certificates: tuple[tuple[str, str], ...] = ()  #: name -> text of further certificate authorities

    @property
    def mac(self) -> str:
        digest = hashlib.sha256(f"{self.lab}/{self.name}".encode()).hexdigest()
        return "52:54:" + ":".join(digest[i : i + 2] for i in range(0, 8, 2))

    def prepare(self, names: t.Sequence[str], packages: pathlib.Path) -> None:
        """Disk and seed, each whole or not at all. An existing disk is kept: it is the machine's."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk = self.home / "disk.qcow2"
        if disk.exists():
            return
        self._make_seed(names)
        new = self.home / ".disk.qcow2.new"
        new.unlink(missing_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(self.rootfs), str(new), "20G")
        new.replace(disk)

    def _make_seed(self, names: t.Sequence[str]) -> None:
        with tempfile.TemporaryDirectory(dir=self.home) as place:
            for name, data in self._documents(names).items():
                head = "#cloud-config\n" if name == "user-data" else ""
                write(pathlib.Path(place, name), head + json.dumps(data), 0o600)
            new = self.home / ".seed.iso.new"
            run(
                *("genisoimage", "-quiet", "-output", str(new), "-volid", "cidata", "-joliet", "-rock"),
                *(str(path) for path in sorted(pathlib.Path(place).iterdir())),
            )
            new.replace(self.home / "seed.iso")

    def _documents(self, names: t.Sequence[str]) -> dict[str, t.Any]:
        keys = sshkeys.Keys(self.directory)
        files = [
            {"path": "/etc/apt/apt.conf.d/90oscarv-lab", "content": self.apt + HOOK},
            {"path": SCRIPT, "content": SCRIPT_TEXT, "permissions": "0755"},
            {"path": "/etc/dpkg/dpkg.cfg.d/oscarv-lab", "content": DPKG},
            {"path": "/etc/hosts", "content": "\n".join([*names, ""]), "append": True},
            *(
                {"path": f"/usr/local/share/ca-certificates/{name}", "content": text}
                for name, text in self.certificates
            ),
        ]
        ethernet = {
            "match": {"macaddress": self.mac},
            "set-name": "eth0",
            "addresses": [str(self.address)],
            "routes": [{"to": "0.0.0.0/0", "via": self.gateway}],
            "nameservers": {"addresses": list(self.nameservers)},
            "link-local": [],
        }
        user = {
            "hostname": self.name,
            "users": [],
            "disable_root": False,
            "ssh_authorized_keys": [keys.user_public()],
            "ssh_deletekeys": True,
            "ssh_keys": {
                "ed25519_private": keys.host_private(self.name),
                "ed25519_public": keys.host_public(self.name),
            },
            "write_files": files,
            "runcmd": [["update-ca-certificates"]] if self.certificates else [],
        }
        return {
            "meta-data": {"instance-id": str(uuid.uuid4()), "local-hostname": self.name},
            "user-data": user,
            "network-config": {"version": 2, "ethernets": {"eth0": ethernet}},
        }

    def knows(self, names: t.Sequence[str]) -> bool:
        """It was told at its first boot; HostOSes that came later are reached by their addresses."""
        return True

    def become(self, lock: int) -> t.NoReturn:
        """In the child: write down who we are, enter our groups, plug in, and become QEMU (same process)."""
        record = {
            "pid": os.getpid(),
            "start_time": start_time(os.getpid()),
            "boot_id": pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        }
        door = cgroup.enter(self.group)
        write(self.home / "process.json", json.dumps(record))
        os.close(lock)
        tap = self._plug()
        (self.home / "monitor").unlink(missing_ok=True)
        home = self.home
        qemu = [
            *("nice", "-n", "10", "qemu-system-x86_64", "-name", f"{self.lab}-{self.name}", "-machine", "q35"),
            *("-nodefaults", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", str(self.processors)),
            *("-m", str(self.memory)),
            # What a lab's disk holds is made again, so nothing waits for it to be safe.
            *("-drive", f"file={home}/disk.qcow2,if=virtio,cache=unsafe"),
            *("-drive", f"file={home}/seed.iso,if=virtio,format=raw,readonly=on"),
            *("-netdev", f"tap,id=net,fd={tap}", "-device", f"virtio-net-pci,netdev=net,mac={self.mac}"),
            *("-device", "virtio-rng-pci", "-display", "none", "-serial", f"file:{home}/console.log"),
            *("-monitor", f"unix:{home}/monitor,server,nowait"),
        ]
        os.execvp("sh", ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(door), *qemu])

    def _plug(self) -> int:
        """A link into the lab's bridge that lives as long as QEMU has its descriptor: nothing is left behind."""
        name = tap_name(self.lab, self.name)
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        os.set_inheritable(descriptor, True)
        run("ip", "link", "set", name, "master", self.bridge, "up")
        return descriptor

    def wait(self, process: t.Optional[subprocess.Popen[bytes]], timeout: float) -> None:
        """As for a container, with more patience."""
        deadline = time.monotonic() + timeout * PATIENCE
        while not answers(str(self.address.ip)):
            if process is not None and process.poll() is not None:
                raise LabError(f"{self.name}: QEMU ended with code {process.returncode}: {self._said()}")
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.name}: no ssh at {self.address.ip} within {timeout * PATIENCE:g} s: {self._said()}"
                )
            time.sleep(1)


def missing_programs() -> bool:
    return any(shutil.which(name) is None for name in ("qemu-system-x86_64", "qemu-img", "genisoimage"))
