# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container's first boot is told, written into its root before it starts: there is no drive to put a seed into.

Where the root has cloud-init, it gets the same NoCloud documents that virtual machines get, as a directory that
cloud-init reads at boot. Where it has none, host name, keys and network are written as the files that they become.
debugfs writes them, so nothing is mounted on the HostOS.
"""

from __future__ import annotations

import ipaddress
import pathlib
import subprocess
import typing as t

from . import _seed as seeds
from ._driver import DriverError
from ._spec import GuestSpec, NicSpec, SeedSpec

#: cloud-init looks here for NoCloud's documents.
SEED_DIR = "/var/lib/cloud/seed/nocloud"
CLOUD_INIT = "/usr/bin/cloud-init"
#: The build's own names its root by UUID; a container's root is there before its init is.
FSTAB = "/etc/fstab"
_FIRST_LINE = "# The root of a container is mounted by its HostOS.\n"


class File(t.NamedTuple):
    """A file in the container's root."""

    text: str
    mode: int = 0o644


def write(path: str, spec: GuestSpec, work: pathlib.Path, private: str | None = None) -> str:
    """Tell the root file system in `path` what `spec` says; returns the guest's public host key.

    May be repeated: what is there is replaced. `work`, `private`: as seeds.make_seed has them.
    """
    seed = t.cast(SeedSpec, spec.seed)
    with seeds.workplace(work / spec.uuid) as place:
        key = seeds.make_key(place, spec.name, private)
        if has(path, CLOUD_INIT, spec.name):
            documents = seeds.documents(spec, seed, key)
            files = {f"{SEED_DIR}/{name}": File(text, 0o600) for name, text in documents.items()}
        else:
            files = plain_files(spec, seed, key)
        put(path, {FSTAB: File(_FIRST_LINE), **files}, place, spec.name)
    return key.public


def plain_files(spec: GuestSpec, seed: SeedSpec, key: seeds.KeyPair) -> dict[str, File]:
    """Without cloud-init: for systemd-networkd and OpenSSH. DriverError for wishes that only cloud-init can fulfil."""
    if seed.cloud_init:
        raise DriverError(
            f"guest {spec.name}: cloud_init: found {', '.join(sorted(seed.cloud_init))}, but its image has no"
            " cloud-init: add it to the image's packages, or take the key away"
        )
    short = seed.hostname.split(".")[0]
    keys = "".join(f"{line}\n" for line in seed.authorized_keys)
    return {
        "/etc/hostname": File(f"{seed.hostname}\n"),
        "/etc/hosts": File(f"127.0.0.1 localhost\n127.0.1.1 {seed.hostname} {short}\n::1 localhost ip6-localhost\n"),
        "/root/.ssh/authorized_keys": File(keys, 0o600),
        "/etc/ssh/ssh_host_ed25519_key": File(key.private, 0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": File(f"{key.public} root@{spec.name}\n"),
        **{f"/etc/systemd/network/10-{nic.name}.network": File(network_file(nic)) for nic in spec.nics},
    }


def network_file(nic: NicSpec) -> str:
    """systemd-networkd's file for a NIC, which is found by its MAC."""
    families = {ipaddress.ip_interface(address).version for address in nic.addresses}
    lines = ["[Match]", f"MACAddress={nic.mac}", "", "[Link]"]
    lines += [f"MTUBytes={nic.mtu}"] if nic.mtu is not None else []
    lines += ["RequiredForOnline=no", "", "[Network]", "DHCP=no", "IPv6AcceptRA=no"]
    lines += ["LinkLocalAddressing=no"] if 6 not in families else []
    for word, values in (("Address", nic.addresses), ("Gateway", nic.gateways), ("DNS", nic.nameservers)):
        lines += [f"{word}={value}" for value in values]
    return "\n".join(lines) + "\n"


def has(path: str, file: str, guest: str) -> bool:
    """Whether the file system in `path` has this file."""
    return "Inode:" in _debugfs(path, ["-R", f"stat {file}"], guest)


def put(path: str, files: t.Mapping[str, File], place: pathlib.Path, guest: str) -> None:
    """Write files, and the folders that they need, into the file system in `path`; all belong to root."""
    lines: list[str] = []
    for folder in _folders(files):
        if not has(path, folder, guest):
            lines.append(f"mkdir {folder}")
            lines.append(f"sif {folder} mode 040{0o700 if folder == '/root/.ssh' else 0o755:o}")
    for number, (name, file) in enumerate(files.items()):
        source = place / f"file{number}"
        source.write_text(file.text, encoding="utf-8")
        if has(path, name, guest):
            lines.append(f"rm {name}")
        lines += [f"write {source} {name}", f"sif {name} mode 0100{file.mode:o}"]
        lines += [f"sif {name} uid 0", f"sif {name} gid 0"]
    commands = place / "commands"
    commands.write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = _debugfs(path, ["-w", "-f", str(commands)], guest)
    for name, file in files.items():
        if _content(path, name, guest) != file.text:
            raise DriverError(f"guest {guest}: cannot write {name} into {path}: {said.strip()[-300:]}")


def _folders(files: t.Iterable[str]) -> list[str]:
    """Every folder above these files, the outer ones first."""
    found = {str(parent): None for name in files for parent in reversed(pathlib.PurePosixPath(name).parents)}
    return sorted((folder for folder in found if folder != "/"), key=lambda folder: folder.count("/"))


def _content(path: str, name: str, guest: str) -> str:
    return _debugfs(path, ["-R", f"cat {name}"], guest)


def _debugfs(path: str, words: list[str], guest: str) -> str:
    """What debugfs says on stdout. It ends with 0 whatever happens, so callers look at what is there."""
    try:
        done = subprocess.run(
            ["debugfs", *words, path], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise DriverError(f"guest {guest}: debugfs is missing on the HostOS: install e2fsprogs") from None
    if done.returncode:
        raise DriverError(f"guest {guest}: debugfs cannot read {path}: {done.stderr.strip()}")
    return done.stdout
