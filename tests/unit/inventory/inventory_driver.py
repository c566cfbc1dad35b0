# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs ansible-inventory with an Ansible whose inside is another one. Used by the tests as a program.

    inventory_driver.py HOW ARGUMENTS...

HOW: `same` changes nothing; `counted` gives hosts an attribute that only the public way keeps up; `stubborn` has hosts
whose `vars` cannot be replaced; `lazy` makes `Group.add_host` do something that nobody else does.
"""

from __future__ import annotations

import sys
import typing as t

from ansible.cli.inventory import InventoryCLI
from ansible.inventory import data as ansible_data
from ansible.inventory.group import Group
from ansible.inventory.host import Host

add_group, add_host = Host.add_group, Group.add_host


def counted(self: t.Any, group: t.Any) -> t.Any:
    self.memberships = getattr(self, "memberships", 0) + 1
    return add_group(self, group)


def lazy(self: t.Any, host: t.Any) -> t.Any:
    self.newest = host.name
    return add_host(self, host)


class Stubborn(Host):
    """A host that keeps its variables elsewhere: they change through `set_variable` alone."""

    @property
    def vars(self) -> dict[str, t.Any]:
        return self.__dict__.setdefault("_hidden", {})

    @vars.setter
    def vars(self, value: dict[str, t.Any]) -> None:
        """Takes nothing."""


def main() -> None:
    how = sys.argv.pop(1)
    if how == "counted":
        Host.add_group = counted
    elif how == "lazy":
        Group.add_host = lazy
    elif how == "stubborn":
        ansible_data.Host = Stubborn
    elif how != "same":
        raise SystemExit(f"unknown: {how}")
    InventoryCLI.cli_executor(sys.argv)


if __name__ == "__main__":
    main()
