# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that every module for a HostOS has, and the driver that they choose."""

from __future__ import annotations

import typing as t

from ._driver import DriverError
from ._kvm import KvmDriver, Options
from ._kvm_connection import DEFAULT_URI
from ._paths import STATE_DIR

#: As in the doc fragment `hypervisor`.
ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "hypervisor": {"type": "str", "choices": ["kvm"], "default": "kvm"},
    "uri": {"type": "str"},
    "state_dir": {"type": "path", "default": STATE_DIR},
    "emulation": {"type": "str", "choices": ["auto", "refuse"], "default": "auto"},
}


def open_driver(params: t.Mapping[str, t.Any], **consents: t.Any) -> KvmDriver:
    """The driver of `params`; `consents` are fields of its Options. DriverError when its hypervisor is not there."""
    options = Options(
        uri=params["uri"] or DEFAULT_URI,
        state_dir=params["state_dir"],
        emulation=params["emulation"],
        **consents,
    )
    driver = KvmDriver(options, params.get("cluster"))
    kind = str(driver.connection.getType()).upper()
    if kind not in ("QEMU", "TEST"):
        driver.close()
        raise DriverError(f"uri {options.uri} leads to hypervisor {kind}; hypervisor kvm wants qemu:///system")
    return driver
