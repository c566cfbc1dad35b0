# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that every module for a HostOS has, and the driver that they choose."""

from __future__ import annotations

import typing as t

from . import _lxc, _xen
from ._driver import DriverError
from ._kvm import KvmDriver, Options
from ._kvm_connection import DEFAULT_URI
from ._lxc import LxcDriver
from ._openvz import OpenVzDriver
from ._openvz import Options as VzOptions
from ._paths import STATE_DIR
from ._xen import XenDriver

#: As in the doc fragment `hypervisor`.
ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "hypervisor": {"type": "str", "choices": ["kvm", "xen", "lxc", "openvz"], "default": "kvm"},
    "uri": {"type": "str"},
    "state_dir": {"type": "path", "default": STATE_DIR},
    "emulation": {"type": "str", "choices": ["auto", "refuse"], "default": "auto"},
}


class _Way(t.NamedTuple):
    """How a hypervisor is driven through libvirt."""

    driver: type[KvmDriver]
    uri: str
    kinds: tuple[str, ...]  #: what libvirt may say that the connection leads to


_WAYS = {
    "kvm": _Way(KvmDriver, DEFAULT_URI, ("QEMU", "TEST")),
    "xen": _Way(XenDriver, _xen.URI, ("XEN",)),
    "lxc": _Way(LxcDriver, _lxc.URI, ("LXC",)),
}


#: Consents that vzctl has no use for.
_NOT_OPENVZ = ("allow_restart",)


def open_driver(params: t.Mapping[str, t.Any], **consents: t.Any) -> KvmDriver | OpenVzDriver:
    """The driver of `params`; `consents` are fields of its Options. DriverError when its hypervisor is not there."""
    if params["hypervisor"] == OpenVzDriver.hypervisor:
        kept = {key: value for key, value in consents.items() if key not in _NOT_OPENVZ}
        return OpenVzDriver(VzOptions(state_dir=params["state_dir"], **kept), params.get("cluster"))
    return open_libvirt(params, **consents)


def open_libvirt(params: t.Mapping[str, t.Any], **consents: t.Any) -> KvmDriver:
    """The same for a hypervisor that libvirt drives."""
    name = params["hypervisor"]
    if name not in _WAYS:
        raise DriverError(f"hypervisor: found {name!r}; allowed here, where libvirt is needed: {', '.join(_WAYS)}")
    way = _WAYS[name]
    options = Options(
        uri=params["uri"] or way.uri,
        state_dir=params["state_dir"],
        emulation=params["emulation"],
        **consents,
    )
    driver = way.driver(options, params.get("cluster"))
    kind = str(driver.connection.getType()).upper()
    if kind not in way.kinds:
        driver.close()
        raise DriverError(f"uri {options.uri} leads to hypervisor {kind}; hypervisor {name} wants {way.uri}")
    return driver
