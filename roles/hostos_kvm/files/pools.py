# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's own objects on a HostOS: the storage pools of the definition, and its network `default` that nobody uses.

The only argument is JSON: uri, check (say it, do not do it), pools [{name, type, path, source}], nfs_options (of
mounts), state (present or absent), stop_default_network. Prints JSON: changes [text]. `absent` forgets a pool; its
files stay.
"""

from __future__ import annotations

import json
import pathlib
import stat
import sys
import typing as t
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import libvirt

#: QEMU runs as a user of its own and has to reach its images, not to list them.
POOL_MODE = 0o711
BUILDS_MODE = 0o755


#: Of libvirt's own element for mount options.
OPTIONS_NAMESPACE = "http://libvirt.org/schemas/storagepool/fs/1.0"


def pool_xml(pool: dict[str, t.Any], nfs_options: t.Sequence[str] = ()) -> str:
    name, target = escape(pool["name"]), f"<target><path>{escape(pool['path'])}</path></target>"
    if pool["type"] == "dir":
        return f"<pool type='dir'><name>{name}</name>{target}</pool>"
    host, _colon, export = pool["source"].partition(":")
    source = f"<source><host name='{escape(host)}'/><dir path='{escape(export)}'/><format type='nfs'/></source>"
    options = "".join(f"<fs:option name='{escape(option)}'/>" for option in nfs_options)
    if options:
        options = f"<fs:mount_opts xmlns:fs='{OPTIONS_NAMESPACE}'>{options}</fs:mount_opts>"
    return f"<pool type='netfs'><name>{name}</name>{source}{target}{options}</pool>"


class Objects:
    """Compares and changes; `changes` is what was, or in check mode would be, done."""

    def __init__(self, connection: libvirt.virConnect, check: bool, nfs_options: t.Sequence[str] = ()) -> None:
        self.connection = connection
        self.nfs_options = nfs_options
        self.check = check
        self.changes: list[str] = []

    def change(self, text: str) -> bool:
        """Record a change; True if it is to be made now."""
        self.changes.append(text)
        return not self.check

    def directory(self, path: pathlib.Path, mode: int) -> None:
        if not path.is_dir():
            if self.change(f"make {path}"):
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(mode)
        elif stat.S_IMODE(path.stat().st_mode) & mode != mode and self.change(f"open {path} for QEMU ({mode:04o})"):
            path.chmod(stat.S_IMODE(path.stat().st_mode) | mode)

    def present(self, pool: dict[str, t.Any], there: dict[str, libvirt.virStoragePool]) -> None:
        name, path = pool["name"], pathlib.Path(pool["path"])
        found = there.get(name)
        if pool["type"] == "dir" or found is None or not found.isActive():
            self.directory(path, POOL_MODE)
        if found is None:
            if self.change(f"define, start and autostart pool {name}"):
                made = self.connection.storagePoolDefineXML(pool_xml(pool, self.nfs_options), 0)
                made.create(0)
                made.setAutostart(1)
        else:
            if not found.isActive() and self.change(f"start pool {name}"):
                found.create(0)
            if not found.autostart() and self.change(f"autostart pool {name}"):
                found.setAutostart(1)
        self.directory(path / "builds", BUILDS_MODE)

    def absent(self, pool: dict[str, t.Any], there: dict[str, libvirt.virStoragePool]) -> None:
        found = there.get(pool["name"])
        if found is not None and self.change(f"forget pool {pool['name']}, keep {pool['path']}"):
            if found.isActive():
                found.destroy()  # libvirt's word for stopping it
            found.undefine()

    def stop_default_network(self) -> None:
        for network in self.connection.listAllNetworks(0):
            if network.name() != "default" or self.in_use(network.name()):
                continue
            if network.autostart() and self.change("no autostart for libvirt's network default"):
                network.setAutostart(0)
            if network.isActive() and self.change("stop libvirt's network default"):
                network.destroy()

    def in_use(self, network: str) -> bool:
        for domain in self.connection.listAllDomains(0):
            sources = ElementTree.fromstring(domain.XMLDesc(0)).findall("devices/interface/source")
            if any(source.get("network") == network for source in sources):
                return True
        return False


def main() -> None:
    wish = json.loads(sys.argv[1])
    connection = libvirt.open(wish["uri"])
    try:
        objects = Objects(connection, wish["check"], wish["nfs_options"])
        there = {pool.name(): pool for pool in connection.listAllStoragePools(0)}
        for pool in wish["pools"]:
            (objects.present if wish["state"] == "present" else objects.absent)(pool, there)
        if wish["stop_default_network"]:
            objects.stop_default_network()
    finally:
        connection.close()
    sys.stdout.write(json.dumps({"changes": objects.changes}))


if __name__ == "__main__":
    main()
