# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the words of `create` and `set` to what is wanted, checked in the order in which they are given."""

from __future__ import annotations

import dataclasses
import typing as t

from . import netif, paths, values
from .getopt import BadOption, getopt_long
from .say import Say

_CREATE = [
    "ostemplate",
    "config",
    "private",
    "root",
    "ipadd",
    "hostname",
    "name",
    "description",
    "layout",
    "ve_layout",
    "velayout",
    "diskspace",
    "diskinodes",
    "local_uid",
    "local_gid",
]
_NOT_SET = ("local_uid", "local_gid")
_VALUED = [
    "applyconfig",
    "applyconfig_map",
    "setmode",
    "ipadd",
    "ip",
    "ipdel",
    "netdev_add",
    "netdev_del",
    "nameserver",
    "searchdomain",
    "userpasswd",
    "netif_add",
    "netif_del",
    "ifname",
    "mac",
    "host_ifname",
    "host_mac",
    "bridge",
    "mac_filter",
    "pci_del",
]
_FLAGS = ("save", "force", "reset_ub", "skip_arpdetect", "offline-resize")
_NIC = ("mac", "host_ifname", "host_mac", "bridge", "mac_filter")

OPTIONS = {
    "create": dict.fromkeys(_CREATE, True),
    "set": {
        **{option: True for option in values.SCALARS if option not in _NOT_SET},
        **dict.fromkeys(_VALUED, True),
        **dict.fromkeys(_FLAGS, False),
    },
}


@dataclasses.dataclass
class Params:
    """What was asked for."""

    conf: dict[str, str] = dataclasses.field(default_factory=dict)
    flags: set[str] = dataclasses.field(default_factory=set)
    words: dict[str, str] = dataclasses.field(default_factory=dict)  #: setmode, applyconfig, config, layout
    ip_add: list[str] = dataclasses.field(default_factory=list)
    ip_del: list[str] = dataclasses.field(default_factory=list)
    nameservers: list[str] = dataclasses.field(default_factory=list)
    searchdomains: list[str] = dataclasses.field(default_factory=list)
    netdev_add: list[str] = dataclasses.field(default_factory=list)
    netdev_del: list[str] = dataclasses.field(default_factory=list)
    nics_add: list[dict[str, str]] = dataclasses.field(default_factory=list)
    nics_del: list[str] = dataclasses.field(default_factory=list)
    nic_edit: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def save(self) -> bool:
        return "save" in self.flags


def parse(verb: str, ctid: int, words: t.Sequence[str], say: Say) -> Params:
    """`verb`: create | set."""
    params = Params()
    rest: list[str] = []
    try:
        for option, value in getopt_long(words, OPTIONS[verb], say, "vzctl"):
            if option == "":
                rest.append(value)
            elif not _take(params, ctid, option, value, say):
                raise say.fail(21, f"Bad parameter for --{option}: {value}")
    except BadOption:
        raise say.fail(21) from None
    if rest:
        say.out(f"non-option ARGV-elements: {' '.join(rest)} ")
        raise say.fail(20)
    _check(params, say)
    return params


def _take(params: Params, ctid: int, option: str, value: str, say: Say) -> bool:
    """False: the value is not valid."""
    if option in ("ram", "swap"):
        _need_vswap(params, say)
    if option in values.SCALARS:
        key, read = values.SCALARS[option]
        stored = read(value)
        if stored is None:
            return False
        params.conf.setdefault(key, stored)
        return True
    if option in _FLAGS:
        params.flags.add(option)
        return True
    return _take_word(params, ctid, option, value)


def _need_vswap(params: Params, say: Say) -> None:
    """--force --save let it pass, but only where they stand before it."""
    if paths.real(f"{paths.PROC}/vswap").exists() or {"force", "save"} <= params.flags:
        return
    raise say.fail(
        3, "Error: kernel does not support vswap, unable to use --ram/--swap parameters", "Error parsing options"
    )


def _take_word(params: Params, ctid: int, option: str, value: str) -> bool:
    lists = {
        "ipadd": (params.ip_add, values.address),
        "ip": (params.ip_add, values.address),
        "ipdel": (params.ip_del, lambda text: text if text == "all" else values.address(text)),
        "nameserver": (params.nameservers, values.server),
        "searchdomain": (params.searchdomains, values.anything),
        "netdev_add": (params.netdev_add, values.anything),
        "netdev_del": (params.netdev_del, values.anything),
        "netif_del": (params.nics_del, values.anything),
    }
    if option in lists:
        collected, read = lists[option]
        for word in value.split() if option in ("nameserver", "searchdomain") else [value]:
            stored = read(word)
            if stored is None:
                return False
            collected.append(stored)
        return True
    if option == "netif_add":
        nic = netif.parse_add(value, ctid)
        if nic is None:
            return False
        params.nics_add.append(nic)
        return True
    if option == "ifname" or option in _NIC:
        params.nic_edit[option] = value.upper() if option in ("mac", "host_mac") else value
        return option == "ifname" or netif.valid(option, value)
    return _take_control(params, option, value)


def _take_control(params: Params, option: str, value: str) -> bool:
    if option == "setmode" and value not in ("restart", "ignore"):
        return False
    if option == "applyconfig_map" and value != "name":
        return False
    if option in ("layout", "ve_layout", "velayout"):
        option, known = "layout", value.partition(":")
        if known[0] not in ("simfs", "ploop") or (known[1] and known[2] not in ("expanded", "plain", "raw")):
            return False
    if option == "userpasswd" and ":" not in value:
        return False
    params.words.setdefault(option, value)
    return True


def _check(params: Params, say: Say) -> None:
    if "NODEMASK" in params.conf and "CPUMASK" not in params.conf:
        raise say.fail(20, "Error: --nodemask requires --cpumask")
    if params.conf.get("CPUMASK") == "auto" and "NODEMASK" not in params.conf:
        raise say.fail(20, "Error: --cpumask auto requires --nodemask")
    if "reset_ub" in params.flags and (len(params.flags) > 1 or params.conf):
        raise say.fail(20, "Error: --reset_ub can not be used with other options")
    if params.nic_edit and "ifname" not in params.nic_edit:
        raise say.fail(20, "Invalid usage. Option --ifname not specified")
