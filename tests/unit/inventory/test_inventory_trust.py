# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes from outside is neither trusted as a template nor put into a command."""

from __future__ import annotations

import typing as t

import ansible.template
import pytest
from ansible.inventory.data import InventoryData
from ansible_collections.oscarv.virt.plugins.plugin_utils import _inventory_fill
from ansible_collections.oscarv.virt.plugins.plugin_utils import _ledger_rows as rows
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import load
from ansible_collections.oscarv.virt.plugins.plugin_utils._inventory_view import View, ViewGroup, view

IDENT = "00000000-0000-4000-8000-000000000001"


def state(host: str, address: str, key: str) -> rows.LedgerState:
    return rows.LedgerState(
        "demo",
        1,
        {IDENT: rows.GuestRow(IDENT, "wn1", "workers", host, 1, "running")},
        {"52:00:00:00:00:01": rows.NicRow("52:00:00:00:00:01", IDENT, 0, "lan", "default", (address,))},
        {},
        {},
        host_keys={IDENT: rows.HostKeyRow(IDENT, key, "2026-11-20T00:00:00+00:00")},
    )


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("{{ lookup('pipe', 'id') }}", 'ssh-ed25519 AAAA"; touch /tmp/x; "'),
        ("10.0.0.1; id", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA {{ 1 }}"),
        ("10.0.0.1\n", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n"),
        ("", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ"),
    ],
)
def test_an_address_or_key_that_is_none_is_not_used(cluster: t.Any, address: str, key: str) -> None:
    shown = view(load(str(cluster.definition)), state("node01", address, key)).hosts["wn1"]
    assert set(shown) == {"oscarv_host", "oscarv_uuid"}


@pytest.mark.parametrize("way", [_inventory_fill.fill_publicly, _inventory_fill.fill_directly])
def test_a_text_with_a_brace_is_not_trusted(way: t.Any) -> None:
    is_trusted = getattr(ansible.template, "is_trusted_as_template", lambda text: "{" not in text)  # since 2.19
    inventory = InventoryData()
    odd = {"a": "{{ 1 }}", "b": ["x", "{% set y %}"], "c": "plain"}
    way(inventory, View({"all": ViewGroup({"d": "{# e #}"})}, {"h": odd}))
    found = inventory.hosts["h"].vars
    assert (found["a"], found["b"], found["c"]) == (odd["a"], odd["b"], odd["c"])
    trusted = [is_trusted(text) for text in (found["a"], *found["b"], found["c"])]
    assert trusted == [False, True, False, True]
    assert not is_trusted(inventory.groups["all"].vars["d"])
