#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridges of a HostOS. What is planned stands in _network_plan, how it is done in _network_switch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hostos_network
short_description: Build the bridges that guests attach to, without losing the machine
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Makes sure that a HostOS has the bridges of a cluster's networks. A bridge that exists is used as it is, whoever made it.
  - A bridge that is missing is built with systemd-networkd where O(uplink) or O(bridges) allow it. What its uplink carried (addresses, routes,
    DHCP, name servers) and the uplink's MAC address move to the bridge. A network with a VLAN gets a bridge of its own over a
    VLAN device of the uplink.
  - The change is made by the machine itself in one step (C(networkctl reload)). It is kept when the controller has reached the machine with a
    new connection, and every bridge is up with its port and address. Otherwise the machine goes back to its old
    configuration by itself, also when it is restarted in between, and the task fails.
  - What cannot be built is refused, with all reasons at once, before anything changes.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows each file of systemd-networkd before and after.
  idempotent:
    support: full
options:
  state:
    description:
      - V(absent) takes back everything that was built, and gives the uplinks what they carried. It is refused while guests are attached.
    type: str
    choices: [present, absent]
    default: present
  networks:
    description: What guests attach to, as the inventory plugin P(oscarv.virt.cluster#inventory) gives it in C(oscarv_networks).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The definition's name of the network.
        type: str
        required: true
      device:
        description: The bridge that must be there in the end.
        type: str
        required: true
      bridge:
        description: The bridge without its VLAN.
        type: str
        required: true
      vlan:
        description: The VLAN, if the network is one.
        type: int
      mtu:
        description: The MTU in bytes, if it is not the device's own.
        type: int
  bridges:
    description: Bridges that may be built.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the bridge.
        type: str
        required: true
      uplink:
        description: The device that becomes its port. Without one the bridge connects guests of this HostOS only.
        type: str
      mtu:
        description: MTU of the bridge in bytes.
        type: int
  uplink:
    description: The device over which a bridge of O(networks) may be built that O(bridges) does not name. Empty means none.
    type: str
    default: ""
  rollback_timeout:
    description: Seconds after which a change that was not confirmed is taken back.
    type: int
    default: 60
  state_dir:
    description: Where the way back is kept on the HostOS, in its folder C(network).
    type: path
    default: /var/lib/oscarv-host
  step:
    description:
      - Used between the controller and the HostOS. V(apply) makes the change, V(confirm) keeps it.
    type: str
    choices: [apply, confirm]
    default: apply
requirements:
  - iproute2, and systemd-networkd (systemd 252 or later) where a bridge is to be built
"""

EXAMPLES = r"""
- name: Build the bridges of the definition over the machine's only link
  oscarv.virt.hostos_network:
    networks: "{{ oscarv_networks }}"
    uplink: eno1

- name: Two bridges, and a VLAN on the first
  oscarv.virt.hostos_network:
    bridges:
      - {name: br0, uplink: eno1}
      - {name: br1, uplink: eno2, mtu: 9000}
    networks:
      - {name: compute, bridge: br0, device: br0v12, vlan: 12}
      - {name: storage, bridge: br1, device: br1}
"""

RETURN = r"""
devices:
  description: The devices that were, or in check mode would be, built and changed; with O(state=absent) those that went.
  returned: success
  type: list
  elements: str
  sample: [br0, br0v12]
"""

import inspect
import json
import pathlib
import subprocess
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _network_switch
from ..module_utils._files import whole
from ..module_utils._network_plan import plan_absent, plan_present, read

NETWORK = {
    "name": {"type": "str", "required": True},
    "device": {"type": "str", "required": True},
    "bridge": {"type": "str", "required": True},
    "vlan": {"type": "int"},
    "mtu": {"type": "int"},
}
BRIDGE = {"name": {"type": "str", "required": True}, "uplink": {"type": "str"}, "mtu": {"type": "int"}}
ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "networks": {"type": "list", "elements": "dict", "default": [], "options": NETWORK},
    "bridges": {"type": "list", "elements": "dict", "default": [], "options": BRIDGE},
    "uplink": {"type": "str", "default": ""},
    "rollback_timeout": {"type": "int", "default": 60},
    "state_dir": {"type": "path", "default": "/var/lib/oscarv-host"},
    "step": {"type": "str", "choices": ["apply", "confirm"], "default": "apply"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    home = pathlib.Path(module.params["state_dir"], "network")
    if module.params["step"] == "confirm":
        module.exit_json(changed=True, retry=switch(module, home, "confirm") == _network_switch.TOO_EARLY)
    wait_for_others(home, module.params["rollback_timeout"] + 30)
    plan = planned(module.params)
    if plan["errors"]:
        module.fail_json(msg="\n".join(plan["errors"]))
    devices = sorted(plan["removed"] or plan["expect"]) if plan["files"] else []
    found: dict[str, t.Any] = {"changed": bool(plan["files"]), "devices": devices, "diff": diff(plan)}
    if plan["files"] and not module.check_mode:
        prepare(home, {**plan, "rollback_seconds": module.params["rollback_timeout"]})
        switch(module, home, "apply")
        found["pending"] = True
    module.exit_json(**found)


def wait_for_others(home: pathlib.Path, seconds: float) -> None:
    """Until no change waits for its confirmation. One of a run that was killed is taken back when its time is over;
    to plan before that would be to take for granted what is about to go. After `seconds` the switch itself refuses.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and _network_switch.AT_BOOT.is_symlink():
        state = json.loads(read(home / "state.json") or "{}").get("state")
        if state not in _network_switch.PENDING:
            return
        time.sleep(1)


def planned(params: dict[str, t.Any]) -> dict[str, t.Any]:
    if params["state"] == "absent":
        return plan_absent()
    return plan_present(params["bridges"], params["networks"], params["uplink"])


def diff(plan: dict[str, t.Any]) -> list[dict[str, str]]:
    return [
        {"before_header": path, "after_header": path, "before": read(path) or "", "after": text or ""}
        for path, text in plan["files"].items()
    ]


def prepare(home: pathlib.Path, wish: dict[str, t.Any]) -> None:
    """The program that knows the way back, and what it is to do, on disk."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in (("network_switch.py", inspect.getsource(_network_switch)), ("wish.json", json.dumps(wish))):
        with whole(home / name, 0o600) as partial:
            partial.write_text(text, encoding="utf-8")


def switch(module: AnsibleModule, home: pathlib.Path, verb: str) -> int:
    """The program's exit code, 0 or TOO_EARLY; anything else fails."""
    command = ["/usr/bin/python3", str(home / "network_switch.py"), verb]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, _network_switch.TOO_EARLY):
        module.fail_json(msg=done.stderr.strip() or f"{' '.join(command)}: exit code {done.returncode}")
    return done.returncode


if __name__ == "__main__":
    main()
