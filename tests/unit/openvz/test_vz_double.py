# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double's traps, locks, faults and lists, and the command layer driving it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_argv as argv
from ansible_collections.oscarv.virt.plugins.module_utils._difference import Difference
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._vz_conf import read_conf
from ansible_collections.oscarv.virt.plugins.module_utils._vz_dialect import LEGACY, Dialect, read_dialect
from ansible_collections.oscarv.virt.plugins.module_utils._vz_errors import VzError
from ansible_collections.oscarv.virt.plugins.module_utils._vz_list import ListError, read_list
from ansible_collections.oscarv.virt.plugins.module_utils._vz_run import Tools
from ansible_collections.oscarv.virt.plugins.module_utils._vz_settings import Tuning, configured, difference, wanted
from vz_node import Node
from vz_plain import MIB, plain

OLD = Dialect(LEGACY, "4.11.1")
TINY = "tiny-1.0-x86_64"


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Node:
    return Node(tmp_path / "node")


def test_set_on_a_missing_container_leaves_an_orphan_that_the_list_does_not_show(node: Node) -> None:
    assert node.run("vzctl", "set", "999", "--cpus", "1", "--save").returncode == 0
    assert node.conf(999) == 'CPUS="1"\n'
    assert "deleted" in node.good("vzctl", "status", "999")
    assert node.good("vzlist", "-a", "-j") == "[]\n"


def test_netif_add_replaces_and_makes_macs_up(node: Node) -> None:
    node.good("vzctl", "create", "201", "--ostemplate", TINY)
    node.good("vzctl", "set", "201", "--netif_add", "eth0,52:54:00:aa:00:01,,,br0", "--save")
    assert "mac=52:54:00:AA:00:01,host_ifname=veth201.0,host_mac=52:54:00:AA:00:01" in node.conf(201)
    node.good("vzctl", "set", "201", "--netif_add", "eth0", "--save")
    first = re.findall(r"mac=(00:18:51:\S{8})", node.conf(201))
    assert len(first) == 2 and "52:54" not in node.conf(201) and "br0" not in node.conf(201)
    node.good("vzctl", "set", "201", "--netif_add", "eth0", "--save")
    assert re.findall(r"mac=(00:18:51:\S{8})", node.conf(201)) != first
    node.good("vzctl", "set", "201", "--netif_del", "eth7", "--save")  # nobody by that name: no error


def test_a_running_container_is_warned_refused_or_restarted_by_setmode(node: Node) -> None:
    node.good("vzctl", "create", "201", "--ostemplate", TINY)
    node.good("vzctl", "start", "201")
    words = ("vzctl", "set", "201", "--features", "nfs:on")
    assert node.run(*words, "--setmode", "ignore", "--save").returncode == 32
    assert "FEATURES" not in node.conf(201)
    assert "--setmode" in node.run(*words, "--save").stderr
    assert 'FEATURES="nfs:on"' in node.conf(201)
    done = node.run("vzctl", "set", "201", "--features", "fuse:on", "--setmode", "restart", "--save")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Container start in progress...")
    acts = json.loads((node.root / "vz/double/201.json").read_text())["acts"]
    assert acts == ["mount", "start", 'change {"FEATURES": "nfs:on"}', "stop", "umount", "mount", "start"]


def test_a_per_cent_sign_counts_all_cpus(node: Node) -> None:
    import os

    node.good("vzctl", "create", "201", "--ostemplate", TINY)
    node.good("vzctl", "set", "201", "--cpulimit", "50%", "--save")
    assert f'CPULIMIT="{50 * (os.cpu_count() or 1)}"' in node.conf(201)


def test_options_may_be_cut_short_where_that_is_clear(node: Node) -> None:
    node.good("vzctl", "create", "201", "--ostempl", TINY)
    node.good("vzctl", "set", "201", "--cpus=2", "--onb", "yes", "--sav")
    assert 'CPUS="2"' in node.conf(201) and 'ONBOOT="yes"' in node.conf(201)
    done = node.run("vzctl", "set", "201", "--cpu", "2", "--save")
    assert done.returncode == 21 and "ambiguous" in done.stderr
    assert node.run("vzctl", "set", "201", "stray", "--save").returncode == 20


def test_comments_survive_and_keys_stay_where_they_are(node: Node) -> None:
    node.good("vzctl", "create", "201", "--ostemplate", TINY)
    path = node.root / "etc/vz/conf/201.conf"
    path.write_text("#UUID: 6f7a\n" + path.read_text())
    node.good("vzctl", "set", "201", "--ram", "1G", "--swap", "0", "--save")
    lines = path.read_text().splitlines()
    assert lines[:3] == ["#UUID: 6f7a", 'PHYSPAGES="0:262144"', 'SWAPPAGES="0:0"']


def test_a_stale_lock_is_taken_away_and_a_live_one_is_not(node: Node) -> None:
    node.good("vzctl", "create", "201", "--ostemplate", TINY)
    lock = node.root / "vz/lock/201.lck"
    lock.write_text("999999999\n\n")
    assert "Removing stale lock file" in node.good("vzctl", "set", "201", "--cpus", "1", "--save")
    lock.write_text("1\n\n")
    assert node.run("vzctl", "set", "201", "--cpus", "1", "--save").returncode == 9
    assert node.run("vzctl", "--skiplock", "set", "201", "--cpus", "1", "--save").returncode == 0
    assert node.run("vzctl", "status", "201").returncode == 0
    assert lock.exists()


@pytest.mark.parametrize(
    ("fault", "words", "state"),
    [
        ("lock-set 9 1", ("set", "201", "--cpus", "1", "--save"), "stopped"),
        ("start 34 1", ("start", "201"), "stopped"),
        ("set 78 1", ("set", "201", "--ipadd", "10.0.0.1", "--save"), "stopped"),
        ("resume 17 1", ("resume", "201"), "stopped"),
        ("suspend 16 1", ("suspend", "201"), "running"),
        ("stop 33 1", ("stop", "201"), "running"),
        ("create 46 1", ("create", "202", "--ostemplate", TINY, "--name", "new"), "stopped"),
    ],
)
def test_ordered_failures_change_nothing_and_are_used_up(
    node: Node, fault: str, words: tuple[str, ...], state: str
) -> None:
    node.good("vzctl", "create", "201", "--ostemplate", TINY)
    if state == "running":
        node.good("vzctl", "start", "201")
    before = node.conf(201)
    node.fault(fault)
    assert node.run("vzctl", *words).returncode == int(fault.split()[1])
    (row,) = json.loads(node.good("vzlist", "-a", "-j"))
    assert (row["ctid"], row["status"], node.conf(201)) == (201, state, before)
    assert not (node.root / "vz/private/202").exists() and not list((node.root / "etc/vz/names").iterdir())
    assert (node.root / "etc/vz/double.faults").read_text() == ""


def test_the_list_is_as_unescaped_as_the_real_one(node: Node) -> None:
    node.good("vzctl", "create", "201", "--ostemplate", TINY, "--description", 'say "hi"')
    # The quote ends the value in the configuration too: what is listed is what the shell syntax leaves of it.
    path = node.root / "etc/vz/conf/201.conf"
    path.write_text(path.read_text().replace('DESCRIPTION="say "hi""', "DESCRIPTION='say \"hi\"'"))
    text = node.good(*argv.list_all(OLD))
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(text)
    (row,) = read_list(text, OLD)
    assert (row["description"], row["status"]) == ('say "hi"', "stopped")


def test_the_list_selects_and_refuses(node: Node) -> None:
    node.good("vzctl", "create", "201", "--ostemplate", TINY, "--name", "alpha")
    node.good("vzctl", "create", "202", "--ostemplate", TINY)
    node.good("vzctl", "start", "202")
    assert node.good("vzlist", "-H", "-o", "ctid").split() == ["202"]
    assert node.good("vzlist", "-S", "-H", "-o", "ctid,status,name").split() == ["201", "stopped", "alpha"]
    assert node.good("vzlist", "-1").split() == ["201", "202"]
    assert node.good("vzlist", "alpha", "-H", "-octid,status").split() == ["201", "stopped"]
    done = node.run("vzlist", "-j", "777")
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert node.run("vzlist", "-a", "-j", "-o", "kmemsize.l").returncode == 1
    assert node.run("vzlist", "-a", "-o", "bogus").returncode == 1
    header = "      CTID      NPROC STATUS    IP_ADDR         HOSTNAME"  # of the reference
    assert node.good("vzlist", "-a").splitlines()[0] == header


def test_an_empty_answer_is_not_an_empty_list(node: Node) -> None:
    assert read_list(node.good(*argv.list_all(OLD)), OLD) == []
    with pytest.raises(ListError):
        read_list(" \n", OLD)


def test_the_command_layer_makes_a_spec_true_and_then_has_nothing_to_do(node: Node) -> None:
    tools = Tools(read_dialect(node.good("vzctl", "--version")), node.execute)
    spec = GuestSpec.from_plain(plain())
    shape = wanted(spec, Tuning(swap=64 * MIB, cpu_limit=150, cpu_units=2000))
    tools.run(argv.create(OLD, "201", TINY, name="wn001", hostname="wn001", description="x", layout="simfs"))
    before = configured(read_conf(node.conf(201), "201"))
    words = argv.settings(OLD, "201", difference(Difference("wn001"), before, shape), running=False)
    assert words is not None
    tools.run(words)
    after = configured(read_conf(node.conf(201), "201"))
    assert after == dataclasses.replace(shape)
    assert argv.settings(OLD, "201", difference(Difference("wn001"), after, shape), running=True) is None
    (row,) = read_list(tools.run(argv.list_all(OLD)).stdout, OLD)
    assert row["physpages"]["limit"] * 4096 == spec.memory


def test_a_lock_that_is_given_back_is_waited_for(node: Node) -> None:
    node.good("vzctl", "create", "201", "--ostemplate", TINY)
    lock = node.root / "vz/lock/201.lck"
    lock.write_text("1\n\n")
    tools = Tools(OLD, node.execute, patience=5, sleep=lambda seconds: lock.unlink(missing_ok=True))
    tools.run(argv.start("201"), "wn001")
    lock.write_text("1\n\n")
    with pytest.raises(VzError, match=r"guest wn001: .*Locked by: pid 1,.*already locked"):
        Tools(OLD, node.execute, patience=0).run(argv.stop("201"), "wn001")
