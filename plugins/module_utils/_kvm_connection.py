# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to libvirt, and libvirt's errors in words that name the guest and what to do."""

from __future__ import annotations

import contextlib
import typing as t

from ._driver import DriverError

try:
    import libvirt
except ImportError as error:
    libvirt = None
    IMPORT_ERROR: str | None = str(error)
else:
    IMPORT_ERROR = None

DEFAULT_URI = "qemu:///system"

#: libvirt error code (by name) -> what to do about it.
_ADVICE = {
    "VIR_ERR_OPERATION_TIMEOUT": "another job has the guest (a move, a backup, a snapshot?): see `virsh domjobinfo`",
    "VIR_ERR_NO_DOMAIN": "somebody removed it meanwhile: run again",
    "VIR_ERR_AUTH_FAILED": "become root, or let this user use the libvirt socket",
    "VIR_ERR_AUTH_CANCELLED": "become root, or let this user use the libvirt socket",
    "VIR_ERR_NO_STORAGE_POOL": "define the pool: run oscarv.virt.hostos",
    "VIR_ERR_CPU_INCOMPATIBLE": "choose a cpu_model that this HostOS has, e.g. `baseline`",
    "VIR_ERR_NO_SUPPORT": "this libvirt or hypervisor cannot do it",
    "VIR_ERR_CONFIG_UNSUPPORTED": "this libvirt or QEMU cannot do it: see `virsh domcapabilities`",
}


def require_libvirt() -> t.Any:
    """The libvirt module; DriverError says what to install where it is missing."""
    if libvirt is None:
        raise DriverError(
            f"Python's libvirt module cannot be imported ({IMPORT_ERROR}): install python3-libvirt on the HostOS and"
            " see that ansible_python_interpreter is that system's python3 (oscarv.virt.hostos does the first)"
        )
    return libvirt


def open_connection(uri: str | None = None) -> t.Any:
    """A libvirt connection (virConnect); DriverError when there is none to be had."""
    lib = require_libvirt()
    lib.registerErrorHandler(_quiet, None)
    try:
        return lib.open(uri or DEFAULT_URI)
    except lib.libvirtError as error:
        raise DriverError(
            f"cannot connect to libvirt at {uri or DEFAULT_URI}: {error}. Is libvirtd (or virtqemud) running?"
            " oscarv.virt.hostos installs and starts it"
        ) from error


def _quiet(_context: t.Any, _error: t.Any) -> None:
    """libvirt's own handler prints to stderr what is raised as an exception as well."""


def is_simulator(connection: t.Any) -> bool:
    """Whether this is libvirt's `test` driver, which has domains but neither files nor processes."""
    return str(connection.getType()).upper() == "TEST"


def error_name(error: t.Any) -> str:
    """`VIR_ERR_...` of a libvirtError; empty for a code that this libvirt module does not know."""
    code = error.get_error_code()
    for name in dir(libvirt):
        if (
            name.startswith("VIR_ERR_")
            and getattr(libvirt, name) == code
            and name not in ("VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR")
        ):
            return name
    return ""


@contextlib.contextmanager
def told(guest: str, operation: str) -> t.Iterator[None]:
    """Turn a libvirtError in the block into a DriverError that names guest, operation and what to do."""
    lib = require_libvirt()
    try:
        yield
    except lib.libvirtError as error:
        raise DriverError(f"guest {guest}: cannot {operation}: {error}{advice(error)}") from error


def advice(error: t.Any) -> str:
    """A sentence to append to an error's text, or nothing."""
    text = _ADVICE.get(error_name(error))
    return f". What to do: {text}" if text else ""


@contextlib.contextmanager
def unless(*names: str) -> t.Iterator[None]:
    """Pass over a libvirtError with one of these codes (`VIR_ERR_...`): what was asked is already so."""
    lib = require_libvirt()
    try:
        yield
    except lib.libvirtError as error:
        if error_name(error) not in names:
            raise
