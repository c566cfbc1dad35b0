# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`vzctl set`."""

from __future__ import annotations

import pathlib

from . import conf, faults, lifecycle, netif, paths
from .container import Container, give_name, owner_of
from .params import Params
from .say import Failure, Say

#: Keys that a running container cannot be given, with the word for each.
_COLD = {
    "CAPABILITY": "Unable to set capability on a running container",
    "IPTABLES": "Unable to set iptables on a running container",
    "FEATURES": "Unable to set features on a running container",
    "DISK_QUOTA": "Unable to switch DISK_QUOTA on or off on a running container",
    "MOUNT_OPTS": "Unable to change mount options on a running container",
}


def set_(ct: Container, params: Params, say: Say) -> None:
    """Works on a container that does not exist as well, and leaves a configuration behind."""
    if "restart" in params.words.get("setmode", "") and not params.save:
        raise say.fail(20, "Error: --setmode restart doesn't make sense without --save flag")
    changes = _changes(ct, params, say)
    _name(ct, params, say)
    try:
        restart = _apply(ct, params, changes, say)
    except Failure:
        if params.save:
            say.err("Error: failed to apply some parameters, not saving configuration file!")
        raise
    if not params.save:
        lost = "and will be lost after CT restart " if ct.running else ""
        say.out(f"WARNING: Settings were not saved to config {lost}(use --save flag)")
        return
    if ct.own is None:
        say.err(f"WARNING: {ct.conf_path} not found: No such file or directory")
    conf.write(ct.conf_path, changes)
    ct.forget()
    say.out(f"CT configuration saved to {ct.conf_path}")
    if restart:
        lifecycle.stop(ct, say, fast=False)
        lifecycle.start(ct, say)


def _changes(ct: Container, params: Params, say: Say) -> dict[str, str]:
    """Every key with its new value. Options that are lists are merged with what is configured."""
    changes = dict(params.conf)
    for key in ("FEATURES", "CAPABILITY", "DEVNODES"):
        if key in changes and ct.conf.get(key):
            changes[key] = " ".join(dict.fromkeys([*ct.conf[key].split(), changes[key]]))
    if params.ip_add or params.ip_del:
        changes["IP_ADDRESS"] = " ".join(_addresses(ct, params))
    if params.nameservers:
        changes["NAMESERVER"] = " ".join(params.nameservers)
    if params.searchdomains:
        changes["SEARCHDOMAIN"] = " ".join(params.searchdomains)
    if params.netdev_add or params.netdev_del:
        kept = [device for device in ct.conf.get("NETDEV", "").split(",") if device and device not in params.netdev_del]
        changes["NETDEV"] = ",".join(dict.fromkeys([*kept, *params.netdev_add]))
    if params.nics_add or params.nics_del or params.nic_edit:
        changes["NETIF"] = netif.write(_nics(ct, params, say))
    return changes


def _addresses(ct: Container, params: Params) -> list[str]:
    bare = {address.partition("/")[0] for address in (*params.ip_add, *params.ip_del)}
    kept = [] if "all" in params.ip_del else ct.conf.get("IP_ADDRESS", "").split()
    return [*(address for address in kept if address.partition("/")[0] not in bare), *dict.fromkeys(params.ip_add)]


def _nics(ct: Container, params: Params, say: Say) -> list[dict[str, str]]:
    """A NIC whose name is known is replaced as a whole; one that is not known is deleted without a word."""
    nics = [nic for nic in ct.nics if "all" not in params.nics_del and nic["ifname"] not in params.nics_del]
    for new in params.nics_add:
        at = next((index for index, nic in enumerate(nics) if nic["ifname"] == new["ifname"]), None)
        if at is None:
            nics.append(new)
        else:
            nics[at] = new
    if params.nic_edit:
        found = next((nic for nic in nics if nic["ifname"] == params.nic_edit["ifname"]), None)
        if found is None:
            raise say.fail(130, f"Container does not have configured veth: {params.nic_edit['ifname']}")
        found.update(params.nic_edit)
    return nics


def _name(ct: Container, params: Params, say: Say) -> None:
    name = params.conf.get("NAME")
    if name is None:
        return
    if not params.save:
        raise say.fail(131, "Error: unable to use --name option without --save")
    owner = owner_of(name)
    if owner == ct.ctid and ct.conf.get("NAME") == name:
        return
    if owner is not None and owner != ct.ctid:
        raise say.fail(131, f"Conflict: name {name} already used by container {owner}")
    give_name(ct.ctid, name)
    say.out(f"Name {name} assigned")


def _apply(ct: Container, params: Params, changes: dict[str, str], say: Say) -> bool:
    """Make it effective; True: a restart shall follow."""
    faults.strike("set", say)
    running = ct.running
    for key in ("VE_PRIVATE", "VE_ROOT"):
        if running and key in changes:
            raise say.fail(32, f"Unable to change {key} on a running container")
    sample = params.words.get("applyconfig")
    if sample is not None:
        changes.update({key: value for key, value in _read_sample(sample, say).items() if key not in changes})
    if not running:
        if not params.save:
            raise say.fail(31, "Unable to apply UBC parameters: container is not running")
        return False
    restart = _refused_while_running(ct, params, changes, say)
    if not restart:
        ct.backend.change(ct, changes)
        say.out("UB limits were set successfully")
    return restart


def _read_sample(name: str, say: Say) -> dict[str, str]:
    shown = f"{paths.CONF_DIR}/ve-{name}.conf-sample"
    if not pathlib.Path(paths.real(shown)).exists():
        raise say.fail(109, f"Sample config file not found: {shown}")
    return conf.read(shown) or {}


def _refused_while_running(ct: Container, params: Params, changes: dict[str, str], say: Say) -> bool:
    """Without --setmode a warning is all that comes of it: it is saved, and the exit code is 0."""
    mode = params.words.get("setmode")
    own = ct.own or {}
    found = [key for key in _COLD if key in changes and changes[key] != own.get(key, "")]
    if not found:
        return False
    if mode == "restart":
        return True
    for key in found:
        say.err(_COLD[key])
    if mode == "ignore":
        raise Failure(32)
    say.err("WARNING: Some of the parameters could not be applied to a running container.")
    say.err("\tPlease consider using --setmode option")
    return False
