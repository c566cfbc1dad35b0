# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ansible-inventory` shows, asked of the real program."""

from __future__ import annotations

import json
import pathlib
import shlex
import typing as t

import pytest

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def members(shown: dict[str, t.Any], group: str) -> list[str]:
    return sorted(shown.get(group, {}).get("hosts", []))


def said(answer: t.Any, words: str) -> bool:
    """Whether an error has these words; older Ansibles break its lines wherever it suits them."""
    return "".join(words.split()) in "".join(answer.stderr.split())


def test_before_there_is_a_ledger(cluster: t.Any) -> None:
    shown = cluster.list()
    for variables in shown["_meta"]["hostvars"].values():
        variables.pop("ansible_local", None)  # Ansible's own, by its settings
    assert members(shown, "oscarv_partition_workers") == ["wn1", "wn2", "wn3", "wn4"], "an absent guest is not shown"
    assert members(shown, "oscarv_unplaced") == ["wn1", "wn2", "wn3", "wn4"]
    assert shown["oscarv_guest"]["children"] == ["oscarv_partition_workers"]
    assert shown["oscarv_hostos"]["children"] == ["oscarv_partition_kvm_hosts", "oscarv_partition_xenhosts"]
    assert members(shown, "oscarv_partition_kvm_hosts") == ["node01", "node02"]
    assert shown["oscarv_hypervisor_kvm"]["children"] == ["oscarv_partition_kvm_hosts"]
    assert sorted(shown["oscarv_enclosure_room1"]["children"]) == ["oscarv_enclosure_rack_1", "oscarv_enclosure_rack_2"]
    assert members(shown, "oscarv_enclosure_rack_1") == ["node01", "node02"]
    assert shown["_meta"]["hostvars"]["wn1"] == {
        "ansible_user": "root",
        "oscarv_cluster": "demo",
        "oscarv_definition": str(cluster.definition),
        "oscarv_image": "base",
        "oscarv_partition": "workers",
        "oscarv_roles": ["site.node"],
        "oscarv_state": "running",
    }
    assert shown["_meta"]["hostvars"]["node01"] == {
        "oscarv_cluster": "demo",
        "oscarv_definition": str(cluster.definition),
        "oscarv_enclosures": {"rack": "rack-1", "room": "room1"},
        "oscarv_hypervisor": "kvm",
        "oscarv_networks": [{"name": "lan", "bridge": "br0", "vlan": 7, "mtu": 9000, "device": "br0v7"}],
        "oscarv_partition": "kvm-hosts",
        "oscarv_pools": [{"name": "local", "type": "dir", "path": "/var/lib/oscarv", "source": None, "shared": False}],
    }
    assert not (cluster.folder / ".oscarv").exists(), "looking creates nothing"


def test_with_a_ledger(cluster: t.Any) -> None:
    cluster.record()
    shown = cluster.list()
    assert members(shown, "oscarv_on_node01") == ["wn1", "wn2"]
    assert members(shown, "oscarv_on_node99") == ["wn3"], "its HostOS left the definition; the guest did not"
    assert members(shown, "oscarv_on_node02") == [], "released guests are gone"
    assert members(shown, "oscarv_unplaced") == ["wn4"]
    first, second, fourth = (shown["_meta"]["hostvars"][name] for name in ("wn1", "wn2", "wn4"))
    assert first["ansible_host"] == "10.0.4.0", "the first address of the first NIC"
    assert (first["oscarv_host"], first["oscarv_uuid"]) == ("node01", "00000000-0000-4000-8000-000000000000")
    assert first["oscarv_host_key"] == KEY
    assert shlex.split(first["ansible_ssh_common_args"]) == [
        *("-o", "HostKeyAlias=wn1", "-o", f"KnownHostsCommand=/bin/echo wn1 {KEY}"),
        *("-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "StrictHostKeyChecking=yes"),
    ]
    assert "ansible_ssh_common_args" not in second, "no key is known: Ansible's own strictness holds"
    assert (fourth["oscarv_state"], fourth["oscarv_image"]) == ("stopped", "other")
    assert "oscarv_host" not in fourth
    assert "__ansible_unsafe" not in str(shown)


@pytest.mark.parametrize("how", ["counted", "stubborn", "lazy"])
def test_another_ansible_inside_falls_back_to_the_public_way_with_the_same_result(cluster: t.Any, how: str) -> None:
    cluster.record()
    cluster.write("all: {hosts: {node01: {ansible_host: 192.0.2.1}, wn2: {mine: 1}}}\n", "hosts.yml")
    for arguments in (("--list",), ("--list", "--export"), ("--graph",), ("--list", "-l", "oscarv_on_node01")):
        answers = {way: cluster.ask(*arguments, "-i", "hosts.yml", "-vvv", how=way) for way in ("same", how)}
        assert all(answer.returncode == 0 for answer in answers.values())
        bodies = {way: body(answer.stdout, arguments) for way, answer in answers.items()}
        assert "7 hosts, directly" in answers["same"].stdout
        assert "7 hosts, through the public API" in answers[how].stdout
        assert bodies["same"] == bodies[how]
        assert "wn2" in bodies["same"]


def body(output: str, arguments: tuple[str, ...]) -> str:
    """What -vvv prints is before the answer."""
    start = "@all:" if "--graph" in arguments else "\n{\n"
    return output[output.index(start) :]


def test_hosts_of_other_sources_keep_what_they_have(cluster: t.Any) -> None:
    cluster.record()
    cluster.write(
        "all:\n  hosts:\n    node01: {ansible_host: 192.0.2.1}\n    wn1: {mine: 1}\n    stranger:\n"
        "  children: {oscarv_builder: {hosts: {node01: }}}\n",
        "hosts.yml",
    )
    for source, other in (("demo.oscarv.yml", "hosts.yml"), ("hosts.yml", "demo.oscarv.yml")):
        answer = cluster.ask("--list", "-i", other, source=source)
        assert answer.returncode == 0
        shown = json.loads(answer.stdout)
        variables = shown["_meta"]["hostvars"]
        assert (variables["node01"]["ansible_host"], variables["node01"]["oscarv_hypervisor"]) == ("192.0.2.1", "kvm")
        assert (variables["wn1"]["mine"], variables["wn1"]["ansible_host"]) == (1, "10.0.4.0")
        assert members(shown, "oscarv_builder") == ["node01"]
        assert members(shown, "ungrouped") == ["stranger"]
        assert members(shown, "oscarv_partition_kvm_hosts") == ["node01", "node02"]


def test_variables_beside_the_definition_win_over_groups(cluster: t.Any) -> None:
    cluster.write("ansible_user: admin\n", "group_vars/oscarv_partition_workers.yml")
    cluster.write("mine: yes\n", "host_vars/wn1.yml")
    variables = cluster.list()["_meta"]["hostvars"]
    assert (variables["wn1"]["ansible_user"], variables["wn1"]["mine"], "mine" in variables["wn2"]) == (
        "admin",
        True,
        False,
    )


CONSTRUCTED = """\
strict: true
compose:
  where: oscarv_host | default('nowhere')
  both: oscarv_partition ~ '-' ~ (oscarv_state | default('host'))
groups:
  even: inventory_hostname is match('wn[24]')
  at_node01: where == 'node01'
keyed_groups:
  - {key: oscarv_state | default('none'), prefix: state}
  - {key: both, prefix: '', separator: ''}
"""


def test_constructed_groups_see_native_variables(cluster: t.Any) -> None:
    cluster.write(cluster.definition.read_text().replace("networks:\n", CONSTRUCTED + "networks:\n", 1))
    cluster.record()
    shown = cluster.list(ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS="silently")
    assert members(shown, "at_node01") == ["wn1", "wn2"]
    assert members(shown, "even") == ["wn2", "wn4"]
    assert members(shown, "state_stopped") == ["wn4"]
    assert members(shown, "workers_running") == ["wn1", "wn2", "wn3"]
    assert members(shown, "kvm_hosts_host") == ["node01", "node02"]
    assert members(shown, "oscarv_partition_workers") == ["wn1", "wn2", "wn3", "wn4"]


def test_strict_expressions_fail_and_others_are_passed_over(cluster: t.Any) -> None:
    text = cluster.definition.read_text()
    cluster.write(text + "compose: {x: nothing_of_this_name}\n")
    assert "x" not in cluster.list()["_meta"]["hostvars"]["wn1"]
    cluster.write(text + "compose: {x: nothing_of_this_name}\nstrict: true\n")
    answer = cluster.ask("--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1")
    assert answer.returncode != 0
    assert said(answer, "Could not set x for host")


def test_errors_of_the_definition_are_shown_all_with_their_lines(cluster: t.Any) -> None:
    cluster.write(
        cluster.definition.read_text().replace("memory: 1 GiB", "memory: 1024").replace("vcpus: 1", "vcpu: 1")
    )
    answer = cluster.ask("--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1")
    assert answer.returncode != 0
    assert said(answer, "demo.oscarv.yml:16: partitions.workers.vcpu: unknown key 'vcpu'; did you mean 'vcpus'?")
    assert said(answer, "demo.oscarv.yml:17: partitions.workers.memory: found '1024'; a size needs a unit")
    assert "Traceback" not in answer.stderr


def test_two_clusters_are_refused(cluster: t.Any) -> None:
    cluster.write(cluster.definition.read_text().replace("cluster: demo", "cluster: two"), "two.oscarv.yml")
    answer = cluster.ask("--list", "-i", "two.oscarv.yml", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1")
    assert answer.returncode != 0
    assert said(answer, "demo.oscarv.yml already; give one cluster only")


def test_a_folder_with_parts_and_hosts(cluster: t.Any) -> None:
    part = "plugin: oscarv.virt.cluster\nimages: {more: {builder: debian, release: sid}}\n"
    cluster.write(part, "parts/more.oscarv-part.yml")
    text = cluster.definition.read_text().replace("networks:\n", "include: parts/more.oscarv-part.yml\nnetworks:\n", 1)
    cluster.write(text)
    cluster.write("all: {hosts: {node01: {ansible_host: 192.0.2.1}}}\n", "hosts.yml")
    shown = cluster.list(source=str(cluster.folder))
    assert shown["_meta"]["hostvars"]["node01"]["ansible_host"] == "192.0.2.1"
    assert "images" not in shown
    assert "more" not in shown


def test_only_files_of_its_name(cluster: t.Any) -> None:
    (cluster.folder / "demo.yml").write_text(cluster.definition.read_text())
    answer = cluster.ask("--list", source="demo.yml", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1")
    assert answer.returncode != 0
    assert said(answer, "could not be verified by inventory plugin")


def test_a_ledger_that_cannot_be_read_is_no_empty_ledger(cluster: t.Any) -> None:
    cluster.record()
    (cluster.folder / ".oscarv" / "ledger.sqlite").write_bytes(b"no database, no database, no database")
    answer = cluster.ask("--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1")
    assert answer.returncode != 0
    assert said(answer, "not a database")


def test_sqlite_is_refused_under_awx(cluster: t.Any) -> None:
    answer = cluster.ask("--list", JOB_ID="7", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1")
    assert answer.returncode != 0
    assert said(answer, "SQLite is refused under AWX")


def test_neither_sqlalchemy_nor_libyaml_is_needed_to_look(cluster: t.Any, tmp_path: pathlib.Path) -> None:
    cluster.record()
    with_all = cluster.list()
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\nsys.modules['sqlalchemy'] = None\nsys.modules['yaml._yaml'] = None\n"
    )
    assert cluster.list(PYTHONPATH=str(hidden)) == with_all
