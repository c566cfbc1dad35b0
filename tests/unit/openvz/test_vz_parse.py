# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_conf as conf
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._vz_dialect import LEGACY, VZ7, Dialect
from ansible_collections.oscarv.virt.plugins.module_utils._vz_list import VZ7_FIELDS, ListError, read_list
from ansible_collections.oscarv.virt.plugins.module_utils._vz_netif import changes, read_netif, veth_of
from ansible_collections.oscarv.virt.plugins.module_utils._vz_status import read_status
from recorded import LIST, commands, recorded

OLD, NEW = Dialect(LEGACY, "4.11.1"), Dialect(VZ7, "7.0.194")


def test_every_recorded_status_is_read() -> None:
    states = {}
    for command in commands():
        if command.text.endswith("status 201") or command.text == "vzctl status alpha":
            assert command.code == 0  # also of a container that is not there
            states[command.stdout.strip()] = read_status(command.stdout).state
    assert states == {
        "CTID 201 deleted unmounted down": "absent",
        "CTID 201 exist unmounted down": "stopped",
        "CTID 201 exist mounted down": "mounted",
        "CTID 201 exist mounted running": "running",
        "CTID 201 exist unmounted down suspended": "suspended",
    }


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("VEID 6f7a3f1e-0f0e-4d55-9d3c-0a4b7d1f2c11 exist mounted paused", "paused"),
        ("VEID 101 exist unmounted suspended", "suspended"),
        ("VEID 101 exist unmounted down suspended", "suspended"),
        ("VEID 101 deleted unmounted down", "absent"),
    ],
)
def test_status_of_vz7(line: str, state: str) -> None:
    assert read_status(f"{line}\n").state == state


@pytest.mark.parametrize("text", ["", "Bad CT ID abc", "CTID 201 exist mounted melting"])
def test_a_status_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DriverError, match="vzctl status"):
        read_status(text)


def test_the_list_of_the_reference_is_read_and_normalised() -> None:
    (row,) = read_list(LIST, OLD)
    assert row["ctid"] == "101"
    assert row["name"] is None
    assert row["nameserver"] == ["10.77.0.1", "10.77.0.2"]
    assert (row["cpus"], row["cpulimit"], row["onboot"]) == (2, 150, True)
    assert row["uptime"] is None  # 0.000 is not known
    assert row["physpages"]["limit"] * conf.PAGE == 512 * 2**20


@pytest.mark.parametrize(
    "description",
    [
        'say "hello"',
        "back\\slash",
        "ends with a backslash \\",
        'x", "status": "stopped',
        'x"}, {"ctid": 7',
        '","name": "wn001',
        "a tab\tand \\u0041",
    ],
)
def test_a_description_cannot_get_out_of_its_quotes(description: str) -> None:
    (row,) = read_list(LIST.replace("A test CT", description), OLD)
    assert row["description"] == description
    assert (row["ctid"], row["status"], row["name"]) == ("101", "running", None)


def test_a_list_whose_strings_are_not_escaped_either() -> None:
    (row,) = read_list(LIST.replace('["example.org"]', '["a"b", "c"]'), OLD)
    assert row["searchdomain"] == ['a"b', "c"]


def test_a_key_that_comes_twice_with_two_values_is_not_believed() -> None:
    text = LIST.replace('"cpus": 2,', '"cpus": 2, "status": "stopped",')
    with pytest.raises(ListError, match="status"):
        read_list(text, OLD)


def test_no_containers_and_no_answer_are_two_things() -> None:
    assert read_list("[]\n", OLD) == []
    with pytest.raises(ListError, match="printed nothing"):
        read_list("", OLD)


def test_a_field_that_is_left_out_is_refused() -> None:
    with pytest.raises(ListError, match="'layout' of container 101"):
        read_list(LIST.replace('    "layout": "simfs",\n', ""), OLD)


def test_vz7_ids_are_strings_and_no_name_is_a_dash() -> None:
    text = LIST.replace('"ctid": 101', '"uuid": "6f7a", "netif": null, "ctid": "6f7a"').replace(
        '"name": null', '"name": "-"'
    )
    (row,) = read_list(text.replace('"onboot": true', '"onboot": false'), NEW)
    assert (row["ctid"], row["name"], row["onboot"]) == ("6f7a", None, False)
    assert VZ7_FIELDS.startswith("uuid,ctid,")


def test_vz7_output_is_read_whether_it_escapes_or_not() -> None:
    text = LIST.replace('"ctid": 101', '"uuid": "6f7a",\n    "netif": null,\n    "ctid": "6f7a"')
    (row,) = read_list(text.replace("A test CT", 'say \\"hello\\"'), NEW)
    assert row["description"] == 'say "hello"'
    (row,) = read_list(text.replace("A test CT", 'say "hello"'), NEW)
    assert row["description"] == 'say "hello"'
    (row,) = read_list(text.replace("A test CT", 'x", "status": "stopped'), NEW)
    assert (row["description"], row["status"]) == ('x", "status": "stopped', "running")


def test_the_recorded_configurations_are_read() -> None:
    first, second = ([*command.conf] for command in commands() if len(command.conf) > 5)
    before, after = conf.read_conf("\n".join(first), "201"), conf.read_conf("\n".join(second), "201")
    assert (before["VE_ROOT"], before["DESCRIPTION"]) == ("/vz/root/201", "first ct")
    # a sample's values stay as they were written until they are set
    assert (before["PHYSPAGES"], after["PHYSPAGES"]) == ("0:256M", "0:131072")
    assert conf.memory_of(before) == 256 * 2**20
    assert conf.memory_of(after) == 512 * 2**20
    assert conf.swap_of(after) == 128 * 2**20
    assert conf.disk_of(before) == round(2.2 * 2**30)
    assert conf.disk_of(after) == 3 * 2**30
    assert after["IP_ADDRESS"] == ""
    (nic,) = read_netif(after["NETIF"])
    assert (nic.ifname, nic.mac, nic.bridge) == ("eth0", "52:54:00:00:02:01", "brovz0")
    assert (nic.host_ifname, nic.host_mac) == ("veth201.0", "52:54:00:00:02:02")


def test_configuration_syntax() -> None:
    text = (
        '# a comment\n#UUID: x\nA=\'$VEID\'\nB=bare # why\n export C="x#y"\nnonsense\nD="1"\nD="2"\nE="${VEID}/$VEIDX"'
    )
    assert conf.read_conf(text, "7") == {"A": "$VEID", "B": "bare", "C": "x#y", "D": "2", "E": "7/$VEIDX"}


@pytest.mark.parametrize("text", ["unlimited", "0:9223372036854775807", "9223372036854775807", "rubbish"])
def test_no_limit_is_none(text: str) -> None:
    assert conf.memory_of({"PHYSPAGES": text}) is None


def test_sizes() -> None:
    assert conf.read_size("8P", 1) == 8 * 4096
    assert conf.read_size("1k", 4096) == 1024
    assert conf.read_size("10", 1024) == 10240


def test_netif_is_read_by_key() -> None:
    text = (
        "ifname=eth0,mac=525400000001,host_mac=FE:54:00:00:00:01,host_ifname=v.0,network=br0,configure=none;ifname=eth1"
    )
    first, second = read_netif(text)
    assert (first.mac, first.host_mac, first.bridge) == ("52:54:00:00:00:01", "fe:54:00:00:00:01", "br0")
    assert second.ifname == "eth1"
    assert read_netif("") == ()


def test_a_nic_that_is_there_is_not_added_again() -> None:
    (seen,) = read_netif(recorded("vzctl set 201 --applyconfig nosuch --save").conf[18].split('"')[1])
    assert changes([seen], [seen]) == ([], [])
    other = veth_of("wn001", "201", 0, name="eth0", mac="52:54:00:00:00:09", bridge="brovz0")
    assert changes([seen], [other]) == ([other], [])  # the same name: replaced
    assert changes([seen], []) == ([], ["eth0"])
