# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""46 HostOSes on one machine: more than the kernel's default inotify instances carry. `make test-long`."""

from __future__ import annotations

import pathlib

import pytest
from conftest import LabUnderTest

pytestmark = pytest.mark.long


def test_46_hostoses(lab: LabUnderTest) -> None:
    first = lab.up(lab_hosts=46, lab_wait_timeout=300)
    assert len([x for x in first.actions if x.startswith("start ")]) == 46
    assert int(pathlib.Path("/proc/sys/fs/inotify/max_user_instances").read_text()) >= 8192
    said = lab.ansible("oscarv_lab", "ansible.builtin.raw", "systemctl is-system-running --wait")
    assert said.splitlines().count("running") == 46, said
    machine_ids = lab.ansible("oscarv_lab", "ansible.builtin.raw", "cat /etc/machine-id").split()
    assert len({x for x in machine_ids if len(x) == 32}) == 46
    assert "1 received" in lab.ssh("node01", "ping -c1 -W2 node46")
    assert lab.up(lab_hosts=46).recap["changed"] == 0
    lab.down()
    assert not any(lab.traces().values()), lab.traces()
