# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The number or id of a guest's container: always the same on every HostOS, so that a move keeps it."""

from __future__ import annotations

import uuid

from ._vz_dialect import Dialect

#: Eight digits: far from what people give by hand, and `vethNNNNNNNN.NN` still fits a device name.
FIRST = 10_000_000
LAST = 99_999_999


def ctid_of(guest_uuid: str, dialect: Dialect) -> str:
    """A number made from the uuid (legacy), or the uuid itself (vz7)."""
    if not dialect.legacy:
        return guest_uuid
    return str(FIRST + uuid.UUID(guest_uuid).int % (LAST - FIRST + 1))


def device_of(guest_uuid: str) -> str:
    """What stands for the guest in names of devices on the HostOS, in both dialects."""
    return str(FIRST + uuid.UUID(guest_uuid).int % (LAST - FIRST + 1))
