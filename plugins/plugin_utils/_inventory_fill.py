# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a View into Ansible's inventory: through the public API, or, ten times faster, past it.

`set_variable` walks and tags every value and every group membership walks the tree of groups, which is seconds at
ten thousand guests. The direct way writes what the public one would have written. It is taken only after both have
filled a small inventory here and now with the same result; where Ansible has changed, the public way is slower and
right.
"""

from __future__ import annotations

import typing as t

from ansible import constants
from ansible.inventory.data import InventoryData
from ansible.inventory.group import Group
from ansible.inventory.host import Host
from ansible.utils.path import basedir

from ._inventory_view import View, ViewGroup

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19 there was nothing to trust
    trust_as_template = None


class Trust:
    """Marks texts that this collection made as safe to show and to template.

    A text with a brace is left alone: only such a text could be a template, and none that is made here has one.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, value: t.Any) -> t.Any:
        if isinstance(value, str):
            return value if "{" in value else trust_as_template(value)
        if isinstance(value, dict):
            return {key: self.shared(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.shared(item) for item in value]
        return value

    def shared(self, value: t.Any) -> t.Any:
        """The same for values of which many are equal."""
        if not isinstance(value, str):
            return self(value)
        if value not in self._known:
            self._known[value] = self(value)
        return self._known[value]


def _as_it_is(value: t.Any) -> t.Any:
    return value


def fill(inventory: t.Any, view: View) -> bool:
    """Add the view to an inventory; returns whether the direct way was taken."""
    data = getattr(inventory, "__wrapped__", inventory)
    direct = data.__class__ is InventoryData and direct_is_right()  # a subclass may do more
    if direct:
        fill_directly(data, view)
    else:
        fill_publicly(inventory, view)
    return direct


def fill_publicly(inventory: t.Any, view: View) -> None:
    """Through the documented methods of an inventory alone."""
    trust = Trust() if trust_as_template else _as_it_is
    for name, group in view.groups.items():
        inventory.add_group(name)
        for key, value in group.vars.items():
            inventory.set_variable(name, key, trust(value))
    for name, group in view.groups.items():
        for child in group.children:
            inventory.add_child(name, child)
    for name, variables in view.hosts.items():
        inventory.add_host(name)
        for key, value in variables.items():
            inventory.set_variable(name, key, trust(value))
    for name, group in view.groups.items():
        for host in group.hosts:
            inventory.add_host(host, name)


def fill_directly(data: InventoryData, view: View) -> None:
    """The same, written into the objects of ansible.inventory."""
    trust: t.Any = Trust() if trust_as_template else None
    old = {name for name in view.hosts if name in data.hosts or name in constants.LOCALHOST}
    fill_publicly(data, View({name: ViewGroup(group.vars, group.children) for name, group in view.groups.items()}, {}))
    source = data.current_source
    common = {"inventory_file": source, "inventory_dir": basedir(source) if source else None}
    for name, variables in view.hosts.items():
        if name in old:
            data.add_host(name)
            for key, value in variables.items():
                data.set_variable(name, key, trust(value) if trust else value)
            continue
        host = data.hosts[name] = Host(name)
        host.vars = dict(common)
        if trust:
            for key, value in variables.items():
                host.vars[key] = trust.shared(value) if key == "oscarv_host" else trust(value)
        else:
            host.vars.update(variables)
    for name, group in view.groups.items():
        _join(data.groups[name], [data.hosts[host] for host in group.hosts])
    data._groups_dict_cache = {}


def _join(group: Group, hosts: list[Host]) -> None:
    """`Group.add_host` for many hosts: the ancestors are the same for all of them."""
    if not hosts:
        return
    ancestors = list(group.get_ancestors())
    known = group.host_names
    for host in hosts:
        if host.name in known:
            continue
        known.add(host.name)
        group.hosts.append(host)
        groups = host.groups
        for ancestor in ancestors:
            if ancestor not in groups:
                groups.append(ancestor)
        if group not in groups:
            groups.append(group)
    group.clear_hosts_cache()


_SAMPLE = View(
    {
        "all": ViewGroup({"a": "x"}),
        "top": ViewGroup({"b": ["y", {"c": "z"}]}, children=["middle"]),
        "middle": ViewGroup(children=["low"], hosts=["one"]),
        "low": ViewGroup(hosts=["two", "three"]),
        "side": ViewGroup(hosts=["three", "one"]),
    },
    {"one": {"oscarv_host": "x"}, "two": {"d": {"e": "f"}, "g": 1}, "three": {}},
)
_right: list[bool] = []


def direct_is_right() -> bool:
    """Whether the direct way gives, in this Ansible, what the public one gives. Asked once."""
    if not _right:
        try:
            ways = []
            for way in (fill_publicly, fill_directly):
                data = InventoryData()
                data.current_source = "/x/sample.oscarv.yml"
                way(data, _SAMPLE)
                data.get_groups_dict()
                data.reconcile_inventory()
                ways.append(_picture(data))
            _right.append(ways[0] == ways[1])
        except (AttributeError, TypeError, KeyError, ValueError):  # an Ansible whose objects are other ones
            _right.append(False)
    return _right[0]


def _picture(data: InventoryData) -> t.Any:
    """All that an inventory holds, as data that can be compared; lists whose order Ansible leaves open are sorted."""

    def flat(value: t.Any) -> t.Any:
        if isinstance(value, (Host, Group)):
            return value.name
        if isinstance(value, (list, set)) and value and all(isinstance(item, (Host, Group)) for item in value):
            return sorted(item.name for item in value)
        return sorted(value) if isinstance(value, set) else value

    def attributes(thing: t.Any) -> dict[str, t.Any]:
        return {key: flat(value) for key, value in vars(thing).items() if key != "_uuid"}

    return (
        {name: attributes(host) for name, host in data.hosts.items()},
        {name: attributes(group) for name, group in data.groups.items()},
        {name: sorted(hosts) for name, hosts in data.get_groups_dict().items()},
    )
