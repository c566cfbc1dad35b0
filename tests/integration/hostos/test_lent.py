# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A HostOS that another cluster lends is looked at, and left alone. This computer plays it, so check mode it is."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import yaml

LENDER = {
    "plugin": "oscarv.virt.cluster",
    "cluster": "lender",
    "partitions": {"kvmhosts": {"hypervisor": "kvm", "members": "lent"}},
}
TENANT = {
    "plugin": "oscarv.virt.cluster",
    "cluster": "tenant",
    "uses": "../lender/lender.oscarv.yml",
    "networks": {"lan": {"bridge": "br0", "ranges": ["10.99.0.0/24"]}},
    "partitions": {
        "workers": {
            "image": "worker",
            "members": "wn1",
            "on": ["kvmhosts"],
            "vcpus": 1,
            "memory": "1 GiB",
            "disk": "1 GiB",
            "networks": ["lan"],
        }
    },
    "images": {"worker": {"builder": "debian", "release": "bookworm"}},
}
REACHED = {
    "all": {"hosts": {"lent": {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}}}
}


def test_what_another_cluster_lends_is_looked_at_and_left_alone(tmp_path: pathlib.Path) -> None:
    for name, definition in (("lender", LENDER), ("tenant", TENANT)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.oscarv.yml").write_text(yaml.safe_dump(definition))
    folder = tmp_path / "tenant"
    (folder / "hosts.yml").write_text(yaml.safe_dump(REACHED))
    for state in ("present", "absent"):
        program = pathlib.Path(sys.executable).with_name("ansible-playbook")
        words = [str(program), "oscarv.virt.hostos", "-i", str(folder), "-e", f"hostos_kvm_state={state}", "--check"]
        # Whether this computer is a HostOS, with a libvirtd of its own, does not matter.
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=300)
        said = done.stdout + done.stderr
        assert "See what HostOSes of other clusters can do" in said, said
        assert "oscarv.virt.hostos_kvm :" not in said, "the role ran on another cluster's HostOS"
        assert (done.returncode == 0) is ("lent belongs to another cluster, and is no HostOS yet" not in said), said
