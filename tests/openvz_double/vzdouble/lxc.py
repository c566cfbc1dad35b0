# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that really run, by Debian's LXC: boot, veth with MAC, limits, freeze, stop. Control groups of version 1.

A container's root is its private area, bound to where OpenVZ mounts it. Its disk has no limit here.
"""

from __future__ import annotations

import subprocess
import typing as t

from . import paths
from .backend import Backend

if t.TYPE_CHECKING:
    from .container import Container

PAGE = 4096
PERIOD = 100_000
#: systemd's wish to power off; LXC's own (SIGPWR) is for sysvinit.
_HALT = "SIGRTMIN+4"
_STOP_TIMEOUT = 120
_MOUNTS = "/proc/self/mounts"


class Lxc(Backend):
    """`lxc-*` with a folder of its own, /vz/double/lxc."""

    @property
    def _folder(self) -> str:
        return str(paths.real("/vz/double/lxc"))

    def _lxc(self, tool: str, ct: Container, *words: str) -> subprocess.CompletedProcess[str]:
        command = [f"lxc-{tool}", "-P", self._folder, "-n", str(ct.ctid), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def _state(self, ct: Container) -> str:
        return self._lxc("info", ct, "-sH").stdout.strip()

    def running(self, ct: Container) -> bool:
        return self._state(ct) in ("RUNNING", "FROZEN", "FREEZING", "STARTING", "STOPPING")

    def mounted(self, ct: Container) -> bool:
        with open(_MOUNTS, encoding="utf-8", errors="replace") as mounts:
            return any(line.split()[1] == str(ct.root) for line in mounts)

    def mount(self, ct: Container) -> None:
        subprocess.run(["mount", "--bind", str(ct.private), str(ct.root)], check=True)

    def umount(self, ct: Container) -> None:
        subprocess.run(["umount", str(ct.root)], check=True)

    def start(self, ct: Container) -> None:
        home = paths.real("/vz/double/lxc") / str(ct.ctid)
        home.mkdir(parents=True, exist_ok=True)
        (home / "config").write_text(self._config(ct), encoding="utf-8")
        done = self._lxc("start", ct, "-d", "-o", str(home / "log"))
        if done.returncode:
            raise SystemExit(f"openvz double: lxc-start: {done.stderr}")

    def _config(self, ct: Container) -> str:
        lines = [
            "lxc.include = /usr/share/lxc/config/common.conf",
            "lxc.apparmor.profile = unconfined",
            "lxc.arch = x86_64",
            f"lxc.rootfs.path = dir:{ct.root}",
            f"lxc.uts.name = {ct.conf.get('HOSTNAME', f'ct{ct.ctid}')}",
            f"lxc.signal.halt = {_HALT}",
        ]
        for number, nic in enumerate(ct.nics):
            values = {
                "type": "veth",
                "flags": "up",
                "name": nic["ifname"],
                "hwaddr": nic["mac"],
                "veth.pair": nic["host_ifname"],
            }
            if nic.get("bridge"):
                values["link"] = nic["bridge"]
            lines += [f"lxc.net.{number}.{key} = {value}" for key, value in values.items()]
        lines += [f"lxc.cgroup.{key} = {value}" for key, value in limits(ct.conf).items()]
        return "\n".join(lines) + "\n"

    def stop(self, ct: Container, *, fast: bool) -> None:
        self.thaw(ct)
        words = ["-k"] if fast else ["-t", str(ct.conf.get("STOP_TIMEOUT", _STOP_TIMEOUT))]
        self._lxc("stop", ct, *words)
        self._lxc("wait", ct, "-s", "STOPPED", "-t", "30")

    def freeze(self, ct: Container) -> None:
        self._lxc("freeze", ct)

    def thaw(self, ct: Container) -> None:
        if self._state(ct) == "FROZEN":
            self._lxc("unfreeze", ct)

    def change(self, ct: Container, changes: t.Mapping[str, str]) -> None:
        """Limits. A NIC of a running container is not changed here."""
        for key, value in limits({**ct.conf, **changes}).items():
            self._lxc("cgroup", ct, key, value)

    def execute(self, ct: Container, argv: t.Sequence[str]) -> int:
        return subprocess.run(
            ["lxc-attach", "-P", self._folder, "-n", str(ct.ctid), "--clear-env", "--", *argv], check=False
        ).returncode


def limits(conf: t.Mapping[str, str]) -> dict[str, str]:
    """Control group file -> value. Pages, processors and per cent of one processor, as the configuration has them."""
    found: dict[str, str] = {}
    pages = conf.get("PHYSPAGES", "").rpartition(":")[2]
    if pages.isdigit():
        found["memory.limit_in_bytes"] = str(int(pages) * PAGE)
    elif pages[:-1].isdigit() and pages[-1] in "KMG":
        found["memory.limit_in_bytes"] = str(int(pages[:-1]) * 2 ** (10 * ("KMG".index(pages[-1]) + 1)))
    given = {key: conf.get(key, "") for key in ("CPUS", "CPULIMIT")}
    shares = [int(given[key]) * unit for key, unit in (("CPUS", 100), ("CPULIMIT", 1)) if given[key].isdigit()]
    percent = min((share for share in shares if share > 0), default=0)
    if percent:
        found["cpu.cfs_period_us"] = str(PERIOD)
        found["cpu.cfs_quota_us"] = str(PERIOD * percent // 100)
    if conf.get("CPUUNITS", "").isdigit():
        found["cpu.shares"] = str(max(2, int(conf["CPUUNITS"])))
    return found
