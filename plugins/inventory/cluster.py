# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin: model and ledger as hosts and groups. It decides nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster
short_description: The HostOSes and guests of a virtual cluster
version_added: 1.0.0
author:
  - the oscarv.virt authors (@oscarv)
description:
  - Reads the definition of a cluster and, where there is one, its ledger, and shows all HostOSes and guests.
  - The file is the definition itself. Its name must end with C(.oscarv.yml). Files that end with C(.oscarv-part.yml)
    are parts, which a definition includes; in a folder of inventory sources they are passed over.
  - "Groups: V(oscarv_hostos), V(oscarv_guest) (guests that are not absent), V(oscarv_partition_NAME),
    V(oscarv_on_HOSTOS) (guests by the HostOS that the ledger says), V(oscarv_enclosure_NAME) (HostOSes),
    V(oscarv_hypervisor_NAME) (HostOSes), V(oscarv_unplaced) (guests without a HostOS), and V(oscarv_external)
    (HostOSes that belong to another cluster). In the name of a group, what is no letter, digit or C(_) becomes C(_)."
  - "Variables of all hosts: C(oscarv_definition) (absolute path), C(oscarv_cluster). Of HostOSes: C(oscarv_partition),
    C(oscarv_hypervisor), C(oscarv_enclosures) (level: name), C(oscarv_pools), C(oscarv_networks). Of guests:
    C(oscarv_partition), C(oscarv_image), C(oscarv_roles), C(oscarv_state) (as defined) and, as soon as the ledger knows
    them, C(oscarv_host), C(oscarv_uuid), C(oscarv_host_key), C(ansible_host) and C(ansible_ssh_common_args), which
    makes ssh verify the guest's host key from the first contact on."
  - The addresses of HostOSes come from another inventory source, such as a plain C(hosts.yml) beside the definition.
extends_documentation_fragment:
  - ansible.builtin.constructed
options:
  plugin:
    description: Name of this plugin.
    type: str
    required: true
    choices:
      - oscarv.virt.cluster
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  ledger:
    description:
      - Database of the ledger; a relative path is relative to the definition. The environment variable E(OSCARV_LEDGER)
        overrides it. Never a password here.
    type: str
    default: sqlite:///.oscarv/ledger.sqlite
  include:
    description: Parts of the definition, each named C(*.oscarv-part.yml).
    type: raw
  uses:
    description: Definitions of other clusters whose HostOSes this one may use, read-only.
    type: raw
  networks:
    description: Networks of the guests. For this and all that follows see the reference of the definition.
    type: raw
  pools:
    description: Storage pools on the HostOSes.
    type: raw
  enclosures:
    description: What fails as one; racks, chassis, PDUs, rooms.
    type: raw
  partitions:
    description: Host partitions and guest partitions.
    type: raw
  rules:
    description: Rules of placement.
    type: raw
  images:
    description: Recipes of images.
    type: raw
  max_release:
    description: Share of the guests that may leave at once without C(oscarv_confirm).
    type: str
    default: 10 %
  quarantine:
    description: How long the addresses of a released guest rest.
    type: str
    default: 1 h
notes:
  - The definition's own keys are no templates; only O(compose), O(groups) and O(keyed_groups) hold Jinja expressions.
  - O(compose), O(groups) and O(keyed_groups) are evaluated guest by guest. At ten thousand guests that is seconds for
    each expression. The native groups cost nothing.
  - One cluster per inventory. A second definition is refused.
seealso:
  - name: How to define a cluster
    description: The definition, step by step, and every key of it.
    link: https://github.com/oscarv/oscarv.virt/tree/main/docs
"""

EXAMPLES = r"""
# demo.oscarv.yml
plugin: oscarv.virt.cluster
cluster: demo
networks:
  lan: {bridge: br0, ranges: 10.0.4.0/24, gateway: 10.0.4.1}
partitions:
  hosts:
    hypervisor: kvm
    members: "node[01:02]"
  workers:
    image: debian-worker
    members: "wn[01:03]"
    on: hosts
    vcpus: 1
    memory: 1 GiB
    disk: 8 GiB
    networks: [lan]
images:
  debian-worker: {builder: debian, release: bookworm}
# Groups beside the native ones; each expression is evaluated for each host.
keyed_groups:
  - {key: oscarv_state, prefix: state}
"""

import typing as t

from ansible.errors import AnsibleParserError
from ansible.inventory.helpers import get_group_vars
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

from ..plugin_utils._definition import DefinitionErrors, load
from ..plugin_utils._definition_sections import PART_SUFFIX, ROOT_SUFFIX
from ..plugin_utils._inventory_fill import fill
from ..plugin_utils._inventory_view import View, view
from ..plugin_utils._ledger import LedgerError, open_ledger


class InventoryModule(BaseInventoryPlugin, Constructable):
    NAME = "oscarv.virt.cluster"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith((ROOT_SUFFIX, PART_SUFFIX))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        if path.endswith(PART_SUFFIX):
            self.display.vvv(f"{path} is a part of a definition; it is read with the file that includes it")
            return
        try:
            cluster = load(path)
        except DefinitionErrors as errors:
            raise AnsibleParserError(f"the definition {path} cannot be used:\n{errors}") from None
        try:
            state = open_ledger(cluster).state()
        except LedgerError as error:
            raise AnsibleParserError(str(error)) from error
        other = inventory.groups["all"].get_vars().get("oscarv_definition", cluster.definition)
        if other != cluster.definition:
            raise AnsibleParserError(
                f"{path}: this inventory has the cluster of {other} already; give one cluster only"
            )
        shown = view(cluster, state)
        direct = fill(inventory, shown)
        self.display.vvv(f"{path}: {len(shown.hosts)} hosts, {'directly' if direct else 'through the public API'}")
        if cluster.constructed:
            self._construct(path, shown)

    def _construct(self, path: str, shown: View) -> None:
        """`compose`, `groups` and `keyed_groups` for every host, as every inventory plugin has them."""
        self._read_config_data(path)
        strict = self.get_option("strict")
        for host, variables in self._variables(shown):
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)

    def _variables(self, shown: View) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
        """Each host with the variables that an expression may use: its groups' and its own."""
        for name in shown.hosts:
            host = self.inventory.get_host(name)
            yield name, {**get_group_vars(host.get_groups()), **host.get_vars()}
