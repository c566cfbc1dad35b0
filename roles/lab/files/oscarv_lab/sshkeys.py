# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's ssh keys: one pair to log in with, one host key per HostOS, and the known_hosts that verifies them."""

from __future__ import annotations

import os
import pathlib
import typing as t

from .base import Report, run, write


class Keys:
    """Keys under LAB/ssh. They are there whole or not at all, and are kept as long as the lab."""

    def __init__(self, lab: pathlib.Path) -> None:
        self.directory = lab / "ssh"

    @property
    def user(self) -> pathlib.Path:
        return self.directory / "id_ed25519"

    @property
    def known_hosts(self) -> pathlib.Path:
        return self.directory / "known_hosts"

    @property
    def control(self) -> pathlib.Path:
        """Where ssh keeps its shared connections to the HostOSes."""
        return self.directory / "cp"

    def _host(self, name: str) -> pathlib.Path:
        return self.directory / "host" / name

    def host_private(self, name: str) -> str:
        return self._host(name).read_text()

    def host_public(self, name: str) -> str:
        return _public(self._host(name))

    def user_public(self) -> str:
        return _public(self.user)

    def ensure(self, hosts: t.Mapping[str, str], owner: tuple[int, int], report: Report) -> None:
        """Make what is missing; `hosts` maps names to addresses, `owner` is who will log in."""
        if not report.check:
            self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            (self.directory / "host").mkdir(mode=0o700, exist_ok=True)
            self.control.mkdir(mode=0o700, exist_ok=True)
            os.chown(self.control, *owner)
        if not _whole(self.user) and report.will("make the key to log in with"):
            _generate(self.user, "oscarv-lab", owner)
        missing = [name for name in hosts if not _whole(self._host(name))]
        for name in missing:
            if report.will(f"make the host key of {name}"):
                _generate(self._host(name), name, (0, 0))
        known = "".join(
            f"{name},{address} {self.host_public(name)}\n"
            for name, address in sorted(hosts.items())
            if name not in missing or not report.check
        )
        if not self.known_hosts.exists() or self.known_hosts.read_text() != known:
            if report.will("write known_hosts"):
                write(self.known_hosts, known, owner=owner)

    def close_connections(self, address: str) -> None:
        """End ssh's shared connections to a HostOS that is no more: they would hang on to the old machine."""
        for path in self.control.glob(f"{address}-*") if self.control.exists() else []:
            run("sh", "-c", 'ssh -O exit -S "$0" lab 2>/dev/null; rm -f "$0"', str(path))


def _whole(private: pathlib.Path) -> bool:
    return private.exists() and private.with_name(private.name + ".pub").exists()


def _public(private: pathlib.Path) -> str:
    return " ".join(private.with_name(private.name + ".pub").read_text().split()[:2])


def _generate(path: pathlib.Path, comment: str, owner: tuple[int, int]) -> None:
    new = path.with_name(f".{path.name}.new")
    for left_over in (new, new.with_name(new.name + ".pub")):
        left_over.unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new))
    os.chown(new, *owner)
    new.with_name(new.name + ".pub").replace(path.with_name(path.name + ".pub"))
    new.replace(path)
