# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed: a small CD-ROM image (cloud-init's NoCloud) with what a guest's first boot is told.

The guest's ed25519 host key is made here, before the first boot, so that the first contact can be verified. Its private
half exists in the seed and in the guest, nowhere else. The files are JSON, which is YAML too: no HostOS needs PyYAML.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import pathlib
import shutil
import subprocess
import typing as t

from ._driver import DriverError
from ._files import whole
from ._spec import GuestSpec, NicSpec, SeedSpec

#: Any of these makes the same image from the same arguments (Debian: genisoimage; EL: xorrisofs, in package xorriso).
ISO_TOOLS = ("genisoimage", "mkisofs", "xorrisofs")
#: The seed goes after the first contact. cloud-init, which looks for it at every boot, would then take the guest for a
#: new one without a configuration and ask DHCP for an address; told so, it trusts what it has learned from the seed.
_KEEP = {"path": "/etc/cloud/cloud.cfg.d/95-oscarv-seed.cfg", "content": "manual_cache_clean: true\n"}
#: Keys of user-data that decide the host key; with another one the first contact would be refused.
_RESERVED = ("ssh_keys", "ssh_deletekeys", "ssh_genkeytypes")


@dataclasses.dataclass(frozen=True)
class KeyPair:
    """An SSH key pair in OpenSSH's formats."""

    private: str = dataclasses.field(repr=False)
    public: str  #: "ssh-ed25519 AAAA..." without a comment


def iso_tool() -> str | None:
    """The program that makes the image; None if there is none."""
    return next((found for found in map(shutil.which, ISO_TOOLS) if found), None)


def refuse(spec: GuestSpec, *, inside: bool = False) -> None:
    """DriverError if the seed that `spec` asks for cannot be made here. `inside`: without an image of its own."""
    seed = spec.seed
    if seed is None:
        return
    for key in _RESERVED:
        if key in seed.cloud_init:
            raise DriverError(
                f"guest {spec.name}: cloud_init.{key}: not allowed, the guest's host key is made by the collection and"
                " verified at the first contact; remove the key from cloud_init"
            )
    if not inside and iso_tool() is None:
        raise DriverError(
            f"guest {spec.name}: no program makes its seed: install one of {', '.join(ISO_TOOLS)} on the HostOS"
            " (Debian: genisoimage; EL: xorriso). oscarv.virt.hostos does it"
        )
    if shutil.which("ssh-keygen") is None:
        raise DriverError(f"guest {spec.name}: ssh-keygen is missing on the HostOS: install openssh-client(s)")


def make_seed(path: str, spec: GuestSpec, work: pathlib.Path, private: str | None = None) -> KeyPair:
    """Write the seed of `spec` (which has one) to `path`, mode 0600, and return the guest's host key.

    The file's name is durable once its directory is synced. `work` is a directory that only root can read; a directory
    in it holds the parts meanwhile, always the same one for a guest, so that an interrupted run leaves nothing that the
    next does not clear away. `private`: a key to keep.
    """
    seed = t.cast(SeedSpec, spec.seed)
    with workplace(work / spec.uuid) as place:
        key = make_key(place, spec.name, private)
        files = documents(spec, seed, key)
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
        pathlib.Path(path).parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        with whole(pathlib.Path(path), 0o600, durable_name=False) as partial:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            command = [
                t.cast(str, iso_tool()),
                "-quiet",
                "-output",
                str(partial),
                "-volid",
                "cidata",
                "-joliet",
                "-rock",
            ]
            _run([*command, *(str(place / name) for name in files)], spec.name, "make its seed")
    return key


def make_key(place: pathlib.Path, guest: str, private: str | None = None) -> KeyPair:
    """A new ed25519 key pair, or the pair of `private`."""
    path = place / "host_key"
    if private is None:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{guest}", "-f", str(path)]
        _run(words, guest, "make its host key")
        public = path.with_suffix(".pub").read_text(encoding="ascii").split()
    else:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(private.rstrip("\n") + "\n")
        public = _run(["ssh-keygen", "-y", "-P", "", "-f", str(path)], guest, "read its host key").split()
    if len(public) < 2 or public[0] != "ssh-ed25519":
        raise DriverError(f"guest {guest}: its private host key must be an ed25519 key, found {public[:1]}")
    return KeyPair(path.read_text(encoding="ascii"), " ".join(public[:2]))


def documents(spec: GuestSpec, seed: SeedSpec, key: KeyPair) -> dict[str, str]:
    """File name -> text."""
    return {
        "meta-data": _text(meta_data(spec, seed)),
        "user-data": "#cloud-config\n" + _text(user_data(spec, seed, key)),
        "network-config": _text(network_config(spec.nics)),
    }


def meta_data(spec: GuestSpec, seed: SeedSpec) -> dict[str, t.Any]:
    return {"instance-id": spec.uuid, "local-hostname": seed.hostname}


def user_data(spec: GuestSpec, seed: SeedSpec, key: KeyPair) -> dict[str, t.Any]:
    """cloud-config: ours, and the definition's `cloud_init` merged into it."""
    short = seed.hostname.split(".")[0]
    ours: dict[str, t.Any] = {
        "hostname": short,
        "preserve_hostname": False,
        "manage_etc_hosts": "localhost",
        "users": [],
        "disable_root": False,
        "ssh_authorized_keys": list(seed.authorized_keys),
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": key.private, "ed25519_public": f"{key.public} root@{spec.name}"},
        "growpart": {"mode": "auto", "devices": ["/"], "ignore_growroot_disabled": False},
        "resize_rootfs": True,
        "locale": False,
        "write_files": [_KEEP],
    }
    if short != seed.hostname:
        ours["fqdn"] = seed.hostname
    return t.cast("dict[str, t.Any]", merged(ours, seed.cloud_init))


def merged(ours: t.Any, theirs: t.Any) -> t.Any:
    """Mappings are merged, lists appended, everything else is replaced."""
    if isinstance(ours, t.Mapping) and isinstance(theirs, t.Mapping):
        return {**ours, **{key: merged(ours[key], value) if key in ours else value for key, value in theirs.items()}}
    if isinstance(ours, list) and isinstance(theirs, (list, tuple)):
        return [*ours, *theirs]
    return theirs


def network_config(nics: t.Iterable[NicSpec]) -> dict[str, t.Any]:
    """Version 2. NICs are found by MAC and named as in the spec; nothing waits for what nobody sends."""
    return {"version": 2, "ethernets": {nic.name: _ethernet(nic) for nic in nics}}


def _ethernet(nic: NicSpec) -> dict[str, t.Any]:
    families = {ipaddress.ip_interface(address).version for address in nic.addresses}
    found: dict[str, t.Any] = {
        "match": {"macaddress": nic.mac},
        "set-name": nic.name,
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
        "addresses": list(nic.addresses),
    }
    if 6 not in families:
        found["link-local"] = []
    if nic.gateways:
        found["routes"] = [{"to": _everywhere(gateway), "via": gateway} for gateway in nic.gateways]
    if nic.nameservers:
        found["nameservers"] = {"addresses": list(nic.nameservers)}
    if nic.mtu is not None:
        found["mtu"] = nic.mtu
    return found


def _everywhere(gateway: str) -> str:
    return "0.0.0.0/0" if ipaddress.ip_address(gateway).version == 4 else "::/0"


def _text(data: t.Mapping[str, t.Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True) + "\n"


@contextlib.contextmanager
def workplace(path: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """An empty directory for the block, readable by root only."""
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _run(words: list[str], guest: str, purpose: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise DriverError(f"guest {guest}: cannot {purpose}: {words[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout
