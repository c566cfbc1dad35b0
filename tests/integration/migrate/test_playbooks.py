# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""migrate, evacuate and settle as people run them, with a definition and a ledger; interrupted in every way."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import time
import typing as t

import pytest
import yaml
from rack import ROOT, Beacons, Rack

MACS = {"p1": "52:54:0a:58:05:65", "p2": "52:54:0a:58:05:66"}
SLOW = "3 MiB"  #: per second; a guest has 32 MiB that do not compress


@pytest.fixture(scope="module")
def cluster(rack: Rack, beacons: Beacons) -> Rack:
    """Guests p1 and p2 run on node01, p3 is stopped there."""
    size = rack.build.stat().st_size
    build = {"build_id": rack.build.stem, "image": "tiny", "recipe_id": rack.build.stem, "size": size}
    for arguments in (
        {"operation": "record_build", "build": {**build, "virtual_size": 64 * 2**20}},
        {"operation": "record_host_build", "host_builds": {host: [rack.build.stem] for host in rack.hosts}},
    ):
        rack.module("node01", "ledger", arguments)
    rack.play("oscarv.virt.deploy", oscarv_wait=False)
    for name in ("p1", "p2", "p3"):
        rack.play("oscarv.virt.migrate", oscarv_select=name, oscarv_to="node01")
    for mac in MACS.values():
        beacons.wait(mac, seconds=180)
    return rack


def info(rack: Rack) -> dict[str, t.Any]:
    """The ledger: {guest: row} and the moves in flight."""
    result = rack.module("node01", "ledger_info", {"subset": ["guests", "moves"]})
    return {"guests": {row["name"]: row for row in result["guests"]}, "moves": result["moves"]}


def consistent(rack: Rack, name: str) -> str:
    """Where the guest is: exactly one copy, and the ledger knows it, with the epoch of its mark."""
    found = rack.where(name)
    assert len(found) == 1, f"{name}: {found}"
    ((host, (state, epoch)),) = found.items()
    row = info(rack)["guests"][name]
    assert (row["host"], row["epoch"]) == (host, epoch)
    assert rack.copies(name) == ([host] if state == "running" else [])
    return host


def files_of(rack: Rack, host: str, name: str) -> list[str]:
    return sorted(file for file in rack.files(host, "tplay") if file.startswith((f"{name}-", f"{name}.")))


def said(text: str) -> list[str]:
    """The lines of the last table that was shown."""
    blocks = re.findall(r'"msg": (\[\n.*?\n    \])', text, re.S)
    return list(json.loads(blocks[-1]))


def unchanged_again(rack: Rack) -> None:
    """An ordinary run, then a further one that changes nothing."""
    rack.play("oscarv.virt.deploy", oscarv_wait=False)
    again = rack.play("oscarv.virt.deploy", oscarv_wait=False)
    assert not again.changed, again.text


# -- the ordinary way --------------------------------------------------------------------------------------------------


def test_migrate_in_check_mode_for_real_and_again(cluster: Rack, beacons: Beacons) -> None:
    wish = {"oscarv_select": "p1", "oscarv_to": "node02"}
    before = cluster.picture("tplay"), info(cluster)
    predicted = cluster.play("oscarv.virt.migrate", "--check", "--diff", **wish)
    assert predicted.changed and said(predicted.text) == ["guest p1: would be moved live to node02"]
    assert (cluster.picture("tplay"), info(cluster)) == before
    begin = time.monotonic()
    done = cluster.play("oscarv.virt.migrate", **wish)
    assert done.changed and re.match(r"guest p1: moved live to node02 in [\d.]+ s", said(done.text)[0])
    beacons.uninterrupted(MACS["p1"], begin)
    assert consistent(cluster, "p1") == "node02"
    assert files_of(cluster, "node01", "p1") == []
    again = cluster.play("oscarv.virt.migrate", **wish)
    assert not again.changed and said(again.text) == ["Nothing to move: every guest is where it should be."]
    unchanged_again(cluster)


def test_with_a_limit_the_controller_still_decides(cluster: Rack) -> None:
    wish = {"oscarv_select": "p1,p3", "oscarv_to": "node01"}
    left_out = cluster.play("oscarv.virt.migrate", "--limit", "node01", good=False, **wish)
    assert left_out.code != 0 and "guest p1: stays: its HostOS is left out by --limit" in said(left_out.text)
    cluster.play("oscarv.virt.migrate", "--limit", "node02", **wish)
    assert consistent(cluster, "p1") == "node01"


def test_a_stopped_guest_goes_cold_and_leaves_nothing(cluster: Rack) -> None:
    done = cluster.play("oscarv.virt.migrate", oscarv_select="p3", oscarv_to="node02")
    assert said(done.text)[0].startswith("guest p3: moved cold to node02")
    assert consistent(cluster, "p3") == "node02"
    assert files_of(cluster, "node01", "p3") == []
    assert "p3.incoming.json" not in files_of(cluster, "node02", "p3")
    cluster.play("oscarv.virt.migrate", oscarv_select="p3", oscarv_to="node01")


def test_what_cannot_be_asked_is_refused(cluster: Rack) -> None:
    for wish in ({}, {"oscarv_select": "p1"}, {"oscarv_select": "p1", "oscarv_to": "node99"}):
        refused = cluster.play("oscarv.virt.migrate", good=False, **wish)
        assert refused.code != 0 and "Say which guests and where to" in refused.text
    assert "oscarv_hosts=node01" in cluster.play("oscarv.virt.evacuate", good=False).text
    assert info(cluster)["moves"] == []


@pytest.mark.long  # the scenario kvm and the demo evacuate too
def test_evacuate_tells_who_stays_and_fails(cluster: Rack, beacons: Beacons) -> None:
    predicted = cluster.play("oscarv.virt.evacuate", "--check", oscarv_hosts="rack1")
    assert len([line for line in said(predicted.text) if "would be moved" in line]) == 3
    cluster.play("oscarv.virt.evacuate", oscarv_hosts="rack1", oscarv_maintenance="new disks")
    for name in ("p1", "p2", "p3"):
        assert consistent(cluster, name) == "node02"
    stay = cluster.play("oscarv.virt.evacuate", good=False, oscarv_hosts="node02")
    assert stay.code != 0 and len([line for line in said(stay.text) if "stays: no HostOS fits" in line]) == 3
    assert "maintenance" in stay.text
    accepted = cluster.play("oscarv.virt.evacuate", oscarv_hosts="node02", oscarv_accept_stays=True)
    assert not accepted.changed
    cluster.play("oscarv.virt.evacuate", oscarv_hosts="node01", oscarv_reopen=True)
    unchanged_again(cluster)
    cluster.play("oscarv.virt.evacuate", oscarv_hosts="node02")
    for name in ("p1", "p2", "p3"):
        assert consistent(cluster, name) == "node01"


@pytest.mark.long
def test_rebalance_packs_guests_while_they_run(cluster: Rack, beacons: Beacons) -> None:
    cluster.play("oscarv.virt.migrate", oscarv_select="p2", oscarv_to="node02")
    before = cluster.picture("tplay"), info(cluster)
    predicted = cluster.play("oscarv.virt.rebalance", "--check", oscarv_goal="consolidate")
    assert predicted.changed and len([line for line in said(predicted.text) if "would be moved" in line]) == 1
    assert (cluster.picture("tplay"), info(cluster)) == before
    begin = time.monotonic()
    cluster.play("oscarv.virt.rebalance", oscarv_goal="consolidate")
    beacons.uninterrupted(MACS["p2"], begin)
    assert len({consistent(cluster, name) for name in ("p1", "p2", "p3")}) == 1
    again = cluster.play("oscarv.virt.rebalance", oscarv_goal="consolidate")
    assert not again.changed and said(again.text) == ["Nothing to move: every guest is where it should be."]
    refused = cluster.play("oscarv.virt.rebalance", good=False, oscarv_goal="tidy")
    assert "oscarv_goal=relieve" in refused.text
    for name in ("p1", "p2", "p3"):
        cluster.play("oscarv.virt.migrate", oscarv_select=name, oscarv_to="node01")


#: What a plan asks for in which a guest is parked on its way, with two HostOSes: there and back.
TWICE = """\
- hosts: oscarv_hostos
  gather_facts: false
  become: true
  tasks:
    - oscarv.virt.assign:
        need_builds: false
      register: __oscarv_assigned
      check_mode: true
      run_once: true
    - ansible.builtin.set_fact:
        __oscarv_wishes:
          - {guest: p2, source: node01, target: node02, wave: 1}
          - {guest: p2, source: node02, target: node01, wave: 2}
        __oscarv_stays: []
      run_once: true
    - ansible.builtin.include_tasks: TASKS/migrate_run.yml
"""


@pytest.mark.long
def test_a_guest_that_is_parked_on_its_way_moves_twice(cluster: Rack, beacons: Beacons, tmp_path: pathlib.Path) -> None:
    play = tmp_path / "twice.yml"
    play.write_text(TWICE.replace("TASKS", str(ROOT / "playbooks" / "tasks")))
    epoch = info(cluster)["guests"]["p2"]["epoch"]
    begin = time.monotonic()
    done = cluster.play(str(play))
    assert [line[:29] for line in said(done.text)] == ["guest p2: moved live to node0"] * 2
    beacons.uninterrupted(MACS["p2"], begin)
    assert consistent(cluster, "p2") == "node01"
    assert info(cluster)["guests"]["p2"]["epoch"] == epoch + 2


# -- interrupted -------------------------------------------------------------------------------------------------------


class Running:
    """A `migrate` that takes its time; up to where it is killed."""

    def __init__(self, rack: Rack, **wish: t.Any) -> None:
        self.rack = rack
        self.source, self.target = "node01", "node02"
        extra = {"oscarv_to": self.target, "oscarv_bandwidth": SLOW, **wish}
        self.process = rack.start("ansible-playbook", "oscarv.virt.migrate", "-e", json.dumps(extra))

    def until(self, command: str, host: str | None = None, seconds: float = 120) -> None:
        """Until a command succeeds on the source (or `host`)."""
        end = time.monotonic() + seconds
        while self.rack.ssh(host or self.source, f"({command}) >/dev/null 2>&1 && echo yes || echo no") != "yes":
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < end, f"{command}: not within {seconds} s"
            time.sleep(0.2)

    def until_it_moves(self, name: str = "p1") -> None:
        self.until(f"virsh domjobinfo {name} | grep -q 'Data processed: *[1-9]'")

    def kill_controller(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_module(self) -> None:
        """What runs on the source, too: nothing of ours is left there."""
        assert self.rack.ssh(self.source, "pkill -c -KILL -f '[g]uest_migrate'") != "0", "there was no module to kill"


@pytest.mark.long  # make test has the one in which the module is killed with it
def test_the_controller_is_killed_in_the_middle(cluster: Rack, beacons: Beacons) -> None:
    begin = time.monotonic()
    run = Running(cluster, oscarv_select="p1")
    run.until_it_moves()
    run.kill_controller()
    assert len(info(cluster)["moves"]) == 1, "the intent stands in the ledger"
    settled = cluster.play("oscarv.virt.settle")
    assert settled.changed
    beacons.uninterrupted(MACS["p1"], begin)
    assert consistent(cluster, "p1") == "node02" and info(cluster)["moves"] == []
    assert files_of(cluster, "node01", "p1") == []
    assert not cluster.play("oscarv.virt.settle").changed
    unchanged_again(cluster)
    cluster.play("oscarv.virt.migrate", oscarv_select="p1", oscarv_to="node01")


def test_controller_and_module_are_killed_in_the_middle(cluster: Rack, beacons: Beacons) -> None:
    """libvirt finishes what it has begun; nobody has proved it or cleaned up. An ordinary run does."""
    begin = time.monotonic()
    run = Running(cluster, oscarv_select="p1")
    run.until_it_moves()
    run.kill_module()
    run.kill_controller()
    state = "/var/lib/oscarv-host"
    cluster.ssh("node01", f"mount --bind {state} {state} && mount -o remount,bind,ro {state}")
    try:
        refused = cluster.play("oscarv.virt.deploy", good=False, oscarv_wait=False)
    finally:
        cluster.ssh("node01", f"umount {state}")
    assert refused.code != 0 and len(info(cluster)["moves"]) == 1, "what cannot be cleaned up is not recorded as done"
    cluster.play("oscarv.virt.deploy", oscarv_wait=False)
    beacons.uninterrupted(MACS["p1"], begin)
    host = consistent(cluster, "p1")
    assert info(cluster)["moves"] == []
    other = "node01" if host == "node02" else "node02"
    assert files_of(cluster, other, "p1") == [], "neither originals nor half copies"
    assert "p1.incoming.json" not in files_of(cluster, host, "p1")
    unchanged_again(cluster)
    cluster.play("oscarv.virt.migrate", oscarv_select="p1", oscarv_to="node01")


def test_a_cold_move_is_killed_while_it_copies(cluster: Rack) -> None:
    disk = "/var/lib/oscarv/tplay/p3-root.qcow2"
    cluster.ssh("node01", f"qemu-io -c 'write -P 0x11 60M 40M' {disk}")
    before = cluster.ssh("node01", f"sha256sum {disk}")
    run = Running(cluster, oscarv_select="p3")
    run.until(f"test -s {disk}", host="node02")
    run.kill_module()
    run.kill_controller()
    settled = cluster.play("oscarv.virt.settle")
    assert any("it has not left" in line for line in said(settled.text))
    assert consistent(cluster, "p3") == "node01" and info(cluster)["moves"] == []
    assert files_of(cluster, "node02", "p3") == []
    assert cluster.ssh("node01", f"sha256sum {disk}") == before
    assert "moving" not in cluster.stones("node01")
    unchanged_again(cluster)


def test_killed_between_intent_and_act_a_late_module_is_refused(cluster: Rack) -> None:
    """The other operator's settle aborts the move; whoever still wanted to make it must not."""
    specs = cluster.module("node01", "assign", {"need_builds": False}, "--check")["specs"]["node01"]
    spec = next(spec for spec in specs if spec["name"] == "p3")
    begun = cluster.module(
        "node01", "ledger", {"operation": "begin_moves", "moves": [{"guest": "p3", "target": "node02", "mode": "cold"}]}
    )["moves"][0]
    assert cluster.play("oscarv.virt.settle").changed
    request = cluster.request(spec, "node01", "node02", begun["epoch_to"])
    request["moves"][0]["id"] = begun["id"]
    late = cluster.module("node01", "guest_migrate", request)
    assert late["failed"] and "was aborted by oscarv.virt.settle meanwhile" in late["msg"]
    assert consistent(cluster, "p3") == "node01"


def test_a_stale_deploy_during_and_after_a_move_starts_nothing(cluster: Rack) -> None:
    specs = cluster.module("node01", "assign", {"need_builds": False}, "--check")["specs"]["node01"]
    stale = [spec for spec in specs if spec["name"] == "p2"]
    arguments = {"cluster": "tplay", "specs": stale, "prune": "off", "lock_timeout": 1}
    run = Running(cluster, oscarv_select="p2")
    run.until_it_moves("p2")
    during = cluster.module("node01", "guest", arguments)
    assert during["failed"] and "guest_migrate p2" in during["msg"], "one lock per HostOS"
    run.kill_module()
    during = cluster.module("node01", "guest", arguments)
    assert during["failed"] and "run oscarv.virt.settle" in during["msg"], during
    run.kill_controller()
    cluster.play("oscarv.virt.settle")
    if consistent(cluster, "p2") == "node02":
        after = cluster.module("node01", "guest", arguments)
        assert after["failed"] and "the spec is stale" in after["msg"]
        assert consistent(cluster, "p2") == "node02"
        cluster.play("oscarv.virt.migrate", oscarv_select="p2", oscarv_to="node01")


@pytest.mark.long
def test_a_second_controller_waits_for_the_first(cluster: Rack, beacons: Beacons) -> None:
    begin = time.monotonic()
    run = Running(cluster, oscarv_select="p1")
    run.until_it_moves()
    second = cluster.play("oscarv.virt.settle")
    text, _none = run.process.communicate(timeout=600)
    assert run.process.returncode == 0, text + second.text
    beacons.uninterrupted(MACS["p1"], begin)
    assert consistent(cluster, "p1") == "node02"
    cluster.play("oscarv.virt.migrate", oscarv_select="p1", oscarv_to="node01")


@pytest.mark.long
def test_a_side_that_does_not_answer_is_left_alone_and_the_others_go_on(cluster: Rack, tmp_path: pathlib.Path) -> None:
    intent = {"operation": "begin_moves", "moves": [{"guest": "p3", "target": "node02", "mode": "cold"}]}
    cluster.module("node01", "ledger", intent)
    gone = tmp_path / "gone.yml"
    gone.write_text(yaml.safe_dump({"all": {"hosts": {"node02": {"ansible_host": "10.88.5.250"}}}}))
    down = cluster.play("oscarv.virt.settle", "-i", str(gone), good=False)
    assert down.code != 0 and "guest p3" in down.text and "node02 could not be reached" in down.text
    assert len(info(cluster)["moves"]) == 1, "left as it is"
    wish = {"oscarv_select": "p3", "oscarv_to": "node02"}
    begun = cluster.play("oscarv.virt.migrate", "-i", str(gone), good=False, **wish)
    assert begun.code != 0 and "in flight" in begun.text, "that guest is refused"
    cluster.play("oscarv.virt.settle")
    assert consistent(cluster, "p3") == "node01" and info(cluster)["moves"] == []


def test_two_copies_need_a_human(cluster: Rack) -> None:
    """Both defined, none running: nothing is started, both names are told; his word settles it."""
    wish = {"operation": "begin_moves", "moves": [{"guest": "p3", "target": "node02", "mode": "cold"}]}
    begun = cluster.module("node01", "ledger", wish)["moves"][0]
    text = cluster.ssh("node01", "virsh dumpxml --inactive p3")
    epoch_from, epoch_to = begun["epoch_from"], begun["epoch_to"]
    copy = re.sub(rf"epoch=(['\"]){epoch_from}\1", f'epoch="{epoch_to}"', text)
    cluster.ssh("node02", "virsh define /dev/stdin", stdin=copy.encode())
    riddle = cluster.play("oscarv.virt.settle", good=False)
    assert riddle.code != 0 and "guest p3" in riddle.text and "neither is started" in riddle.text
    assert cluster.copies("p3") == []
    cluster.play("oscarv.virt.settle", oscarv_resolve={"p3": "node01"})
    assert consistent(cluster, "p3") == "node01" and info(cluster)["moves"] == []
    unchanged_again(cluster)
