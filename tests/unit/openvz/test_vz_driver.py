# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenVZ driver against the double: every step as check, real, again."""

from __future__ import annotations

import os
import pathlib
import stat
import typing as t

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils._driver import CAPABILITIES, DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._errors import StepFailed
from ansible_collections.oscarv.virt.plugins.module_utils._openvz import OpenVzDriver, Options
from ansible_collections.oscarv.virt.plugins.module_utils._reconcile import Outcome, Result, Wish, reconcile
from ansible_collections.oscarv.virt.plugins.module_utils._report import diffs, result_plain
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import MOVED, Tombstone, Tombstones
from ansible_collections.oscarv.virt.plugins.module_utils._vz_ids import device_of
from vz_node import Node
from vz_plain import MIB, UUID, plain

BUILD = "ab" * 32
CTID = device_of(UUID)


class HostOS:
    """A node of the double, and what `guest` does on it."""

    def __init__(self, tmp_path: pathlib.Path) -> None:
        self.node = Node(tmp_path / "node")
        self.node.template(f"debian-{BUILD}")
        self.state_dir = tmp_path / "state"
        self.calls: list[list[str]] = []

    def execute(self, argv: t.Sequence[str], timeout: float) -> t.Any:
        self.calls.append(list(argv))
        return self.node.execute(argv, timeout)

    def driver(self, **consents: t.Any) -> OpenVzDriver:
        options = Options(state_dir=str(self.state_dir), root=str(self.node.root), **consents)
        return OpenVzDriver(options, "demo", self.execute)

    def guest(self, *specs: dict[str, t.Any], check: bool = False, prunable: t.Any = None, **consents: t.Any) -> Result:
        wish = Wish("demo", specs, prune="remove" if prunable else "report", prunable=prunable or ())
        return reconcile(self.driver(**consents), wish, check=check)

    def thrice(self, spec: dict[str, t.Any], **consents: t.Any) -> Outcome:
        """Check, real, again: check changes nothing and says what real does; again there is nothing to do."""
        before = self.tree()
        (said,) = self.guest(spec, check=True, **consents).outcomes
        assert self.tree() == before
        assert said.error is None, said.error
        (done,) = self.guest(spec, **consents).outcomes
        assert done.error is None, done.error
        assert (said.changed, said.steps) == (done.changed, done.steps)
        assert said.change is not None and done.change is not None
        assert said.change.difference.before_after() == done.change.difference.before_after()
        self.calls.clear()
        (again,) = self.guest(spec, **consents).outcomes
        assert (again.error, again.changed, again.steps) == (None, False, [])
        assert {tuple(call[:2]) for call in self.calls} <= {("vzctl", "--version"), ("vzlist", "-a")}
        return done

    def tree(self) -> dict[str, bytes]:
        found = {}
        for base in (self.node.root, self.state_dir):
            for path in sorted(base.rglob("*")) if base.exists() else ():
                found[str(path)] = path.read_bytes() if path.is_file() else b""
        return found

    @property
    def state(self) -> str:
        seen = self.driver().observe_all().guests.get(UUID)
        return seen.state if seen else "absent"

    @property
    def conf(self) -> str:
        return self.node.conf(int(CTID))

    @property
    def private(self) -> pathlib.Path:
        return self.node.root / "vz/private" / CTID


@pytest.fixture
def host(tmp_path: pathlib.Path) -> HostOS:
    return HostOS(tmp_path)


def spec(**changes: t.Any) -> dict[str, t.Any]:
    disks = [{"name": "root", "size": 3072 * MIB, "pool": "local", "build_id": BUILD}]
    return plain(**{"disks": disks, **changes})


def test_a_guest_is_created_configured_seeded_and_started(host: HostOS) -> None:
    done = host.thrice(spec())
    assert done.steps == ["create", "configure", "write seed", "start"]
    assert host.state == "running"
    seen = host.driver().observe_all().guests[UUID]
    assert (seen.name, seen.vcpus, seen.memory, seen.memory_live, seen.autostart) == (
        *("wn001", 2, 512 * MIB, 512 * MIB, True),
    )
    assert seen.nics == ({"mac": "52:54:00:00:00:01", "bridge": "br0", "model": "veth"},)
    mark = seen.mark
    assert mark is not None and mark.host_key is not None
    assert (mark.epoch, mark.build_id, mark.nics[0]["addresses"]) == (1, BUILD, ["10.0.4.21/22"])
    seed = host.private / "var/lib/cloud/seed/nocloud"
    assert sorted(path.name for path in seed.iterdir()) == ["meta-data", "network-config", "user-data"]
    assert mark.host_key in (seed / "user-data").read_text()
    assert stat.S_IMODE((seed / "user-data").stat().st_mode) == 0o600
    assert "10.0.4.21/22" in (seed / "network-config").read_text()
    assert list((host.state_dir / "seeds").iterdir()) == []


def test_only_the_difference_is_set_while_it_runs(host: HostOS) -> None:
    host.guest(spec())
    done = host.thrice(spec(vcpus=3, memory=1024 * MIB))
    assert done.steps == ["configure"]
    assert done.change is not None and sorted(entry.key for entry in done.change.difference.entries) == [
        "memory",
        "vcpus",
    ]
    assert 'CPUS="3"' in host.conf and 'PHYSPAGES="0:262144"' in host.conf
    assert host.state == "running"


def test_a_new_epoch_reaches_the_mark_and_keeps_the_host_key(host: HostOS) -> None:
    host.guest(spec())
    before = host.driver().observe_all().guests[UUID].mark
    host.thrice(spec(epoch=2))
    after = host.driver().observe_all().guests[UUID].mark
    assert before is not None and after is not None
    assert (before.epoch, after.epoch) == (1, 2) and before.host_key == after.host_key


def test_a_rebuild_is_refused_and_not_called_done(host: HostOS) -> None:
    host.guest(spec())
    before = host.tree()
    for wish in (
        spec(epoch=2, recreate=True),
        spec(recreate=True, disks=[{**spec()["disks"][0], "build_id": "cd" * 32}]),
    ):
        (outcome,) = host.guest(wish).outcomes
        assert outcome.error is not None and outcome.error.startswith("guest wn001: recreate: "), outcome.error
        assert "makes no root anew" in outcome.error and "rebuild it there" in outcome.error
        assert host.tree() == before
    (again,) = host.guest(spec(recreate=True)).outcomes
    assert (again.error, again.changed) == (None, False)


def test_nics_are_replaced_and_removed_by_name(host: HostOS) -> None:
    host.guest(spec())
    nic = {**plain()["nics"][0], "bridge": "br7"}
    second = {"name": "eth1", "network": "storage", "mac": "52:54:00:00:00:02", "bridge": "br1"}
    host.thrice(spec(nics=[nic, second]))
    assert "bridge=br7" in host.conf and "ifname=eth1" in host.conf
    host.thrice(spec(nics=[nic]))
    assert "eth1" not in host.conf


def test_power(host: HostOS) -> None:
    assert host.thrice(spec(state="stopped")).steps == ["create", "configure", "write seed"]
    assert host.state == "stopped"
    assert host.thrice(spec(state="running")).steps == ["configure", "start"]  # onboot, too
    assert host.thrice(spec(state="paused")).steps == ["configure", "pause"]
    assert host.state == "paused"
    assert host.thrice(spec(state="running")).steps == ["configure", "resume"]
    host.thrice(spec(state="paused"))
    assert host.thrice(spec(state="stopped")).steps == ["resume", "stop"]
    assert host.thrice(spec(state="paused")).steps == ["start", "pause"]
    assert not host.thrice(spec(state="paused", autostart=False)).changed
    host.thrice(spec(state="running"))
    assert host.state == "running"
    assert not host.thrice(spec(state="present")).changed


class Clock:
    """Of a HostOS whose only container started 100 s after the boot; the double knows no uptime."""

    def __init__(self, host: HostOS, monkeypatch: pytest.MonkeyPatch) -> None:
        from ansible_collections.oscarv.virt.plugins.module_utils import _vz_paused

        self.now, self.wall, self.began = 200.0, 0.0, 100.0
        monkeypatch.setattr(_vz_paused, "since_boot", lambda: self.now, raising=False)
        monkeypatch.setattr(_vz_paused.time, "time", lambda: 1e9 + self.now + self.wall)
        self.execute = host.execute
        monkeypatch.setattr(host, "execute", self.told)

    def told(self, argv: t.Sequence[str], timeout: float) -> t.Any:
        output = self.execute(argv, timeout)
        text = output.stdout.replace('"uptime": 0.000', f'"uptime": {self.now - self.began:.3f}')
        return type(output)(output.code, text, output.stderr)


def test_a_pause_is_recognised_however_late_it_came_and_whatever_the_clock_says(
    host: HostOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(host, monkeypatch)
    host.guest(spec())
    driver = host.driver()
    change = driver.plan(GuestSpec.from_plain(spec(state="paused")), driver.observe_all().guests[UUID])
    clock.now += 60  # other guests come first
    driver.apply(change)
    assert host.state == "paused"
    clock.now, clock.wall = clock.now + 1000, 3600.0
    assert host.state == "paused"
    clock.began = clock.now - 1  # somebody has restarted it
    assert host.state == "running"


def test_a_note_of_an_earlier_version_is_read_and_a_broken_one_does_no_harm(
    host: HostOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(host, monkeypatch)
    host.guest(spec())
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    note = host.state_dir / f"openvz-paused/{CTID}.json"
    note.parent.mkdir()
    for text, state in (
        (f'{{"boot": "{boot}", "started": {1e9 + 100}}}', "paused"),
        (f'{{"boot": "{boot}", "started": {1e9 + 150}}}', "running"),
        (f'{{"boot": "{boot}", "started": null}}', "paused"),
        (f'{{"boot": "{boot}", "began": "x"}}', "running"),
        (f'{{"boot": "{boot}"}}', "running"),
        ("[]", "running"),
    ):
        note.write_text(text)
        assert host.state == state, text


def test_absent_keeps_the_data_and_the_guest_comes_back_as_it_was(host: HostOS) -> None:
    host.guest(spec())
    key = host.driver().observe_all().guests[UUID].mark
    (host.private / "data").write_text("precious")
    assert host.thrice(spec(state="absent")).steps == ["stop", "unregister"]
    assert host.state == "absent" and (host.private / "data").read_text() == "precious"
    assert host.node.good("vzlist", "-a", "-j") == "[]\n"
    assert not list((host.node.root / "etc/vz/names").iterdir())
    back = host.thrice(spec(epoch=2, first_contact=False, state="running"))
    assert back.steps == ["bring back", "configure", "start"]
    mark = host.driver().observe_all().guests[UUID].mark
    assert key is not None and mark is not None
    assert (mark.host_key, mark.epoch) == (key.host_key, 2)
    assert host.node.good("vzctl", "status", "wn001").endswith("running\n")


def test_one_that_was_removed_before_its_seed_was_written_gets_it_when_it_comes_back(host: HostOS) -> None:
    host.node.fault("set 46 1")
    (broken,) = host.guest(spec()).outcomes
    assert broken.taken == ("create",)
    host.thrice(spec(state="absent"))
    newer = [{**spec()["disks"][0], "build_id": "cd" * 32}]
    back = host.thrice(spec(epoch=2, disks=newer))
    assert back.steps == ["bring back", "configure", "write seed", "start"]
    mark = host.driver().observe_all().guests[UUID].mark
    assert mark is not None and (mark.epoch, mark.build_id) == (2, BUILD), "what it was made of, not what is newest"
    assert mark.host_key and mark.host_key in (host.private / "var/lib/cloud/seed/nocloud/user-data").read_text()


def test_what_is_kept_of_a_removed_guest_is_durable_before_the_rest_goes(
    host: HostOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.guest(spec(state="stopped"))
    told: list[tuple[str, str]] = []
    fsync, unlink = os.fsync, os.unlink

    def synced(handle: int) -> None:
        told.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def unlinked(path: t.Any, **options: t.Any) -> None:
        told.append(("unlink", os.path.basename(path)))
        unlink(path, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "unlink", unlinked)
    before = host.conf
    host.guest(spec(state="absent"))
    kept = host.state_dir / f"openvz-kept/{CTID}.conf"
    assert kept.read_text() == before and stat.S_IMODE(kept.stat().st_mode) == 0o600
    gone = told.index(("unlink", f"{CTID}.conf"))
    assert {("sync", f".{CTID}.conf.partial"), ("sync", "openvz-kept")} <= set(told[:gone])
    assert ("sync", "conf") in told[gone:]


def test_disks_go_only_by_consent_also_those_that_were_kept(host: HostOS) -> None:
    host.guest(spec())
    host.thrice(spec(state="absent"))
    assert host.thrice(spec(state="absent"), remove_disks=True).steps == ["destroy"]
    assert not host.private.exists()
    host.guest(spec())
    assert host.thrice(spec(state="absent"), remove_disks=True).steps == ["stop", "destroy"]
    assert not host.private.exists() and host.state == "absent"


def test_prune_removes_what_the_ledger_released_and_nothing_foreign(host: HostOS) -> None:
    host.guest(spec())
    host.node.good("vzctl", "create", "201", "--ostemplate", "tiny-1.0-x86_64", "--description", "A test CT")
    other = spec(name="wn002", uuid=UUID[:-1] + "2", nics=[])
    result = host.guest(other, prunable=[{"name": "wn001", "uuid": UUID, "epoch": 1}])
    assert [outcome.error for outcome in result.outcomes] == [None, None]
    observation = host.driver().observe_all()
    assert [seen.name for seen in observation.guests.values()] == ["wn002"]
    assert [seen.name for seen in observation.foreign] == ["201"]


def test_the_seed_goes_after_first_contact(host: HostOS) -> None:
    host.guest(spec())
    assert host.thrice(spec(first_contact=True)).steps == ["delete seed"]
    assert list((host.private / "var/lib/cloud/seed/nocloud").iterdir()) == []


def test_an_interrupted_creation_is_finished(host: HostOS) -> None:
    host.node.fault("set 46 1")
    (broken,) = host.guest(spec()).outcomes
    assert broken.error is not None and "no disk space" in broken.error
    assert broken.taken == ("create",) and broken.changed
    assert host.state == "stopped"
    assert host.thrice(spec()).steps == ["configure", "write seed", "start"]


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("create 46", "no disk space left"),
        ("start 34", "an IP address could not be added"),
        ("set 78", "the IP address is in use already"),
        ("lock-create 9", "another vzctl holds the container's lock"),
    ],
)
def test_a_failure_says_what_it_is_and_goes_away(
    host: HostOS, fault: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils import _vz_run

    monkeypatch.setattr(_vz_run.Tools.__init__, "__defaults__", (_vz_run.execute, 0.5, *_tail(_vz_run)))
    host.node.fault(fault)
    (outcome,) = host.guest(spec()).outcomes
    assert outcome.error is not None and outcome.error.startswith("guest wn001: ") and named in outcome.error
    (host.node.root / "etc/vz/double.faults").unlink()
    host.guest(spec())
    assert host.state == "running"


def test_a_container_that_cannot_be_paused_runs_on(host: HostOS) -> None:
    host.guest(spec())
    host.node.fault("suspend 16 1")
    (outcome,) = host.guest(spec(state="paused")).outcomes
    assert outcome.error == (
        f"guest wn001: `vzctl chkpnt {CTID} --suspend` failed with code 16: checkpointing failed. It said:"
        " Checkpointing failed. Look into `dmesg` and the log beside its dump."
    )
    assert host.state == "running"
    assert host.thrice(spec(state="paused")).steps == ["pause"]


def test_one_that_cannot_be_resumed_stays_paused(host: HostOS) -> None:
    host.guest(spec(state="paused"))
    host.node.fault("suspend 16 1")
    (outcome,) = host.guest(spec()).outcomes
    assert outcome.error is not None and "--resume` failed with code 16: checkpointing failed" in outcome.error
    assert host.state == "paused"
    assert host.thrice(spec()).steps == ["resume"]


def test_a_dump_that_cannot_be_restored_is_kept(host: HostOS) -> None:
    """Also one that somebody made by hand; nothing of ours throws it away."""
    host.guest(spec())
    host.node.good("vzctl", "suspend", CTID)
    assert host.state == "saved"
    host.node.fault("resume 17 1")
    (outcome,) = host.guest(spec()).outcomes
    assert outcome.error is not None
    assert outcome.error.startswith(f"guest wn001: `vzctl resume {CTID}` failed with code 17: restoring from the")
    assert "Container restore failed" in outcome.error and "the log beside its dump" in outcome.error
    assert host.state == "saved" and (host.node.root / f"vz/dump/Dump.{CTID}").exists()
    assert host.thrice(spec()).steps == ["restore"]
    assert host.state == "running" and not (host.node.root / f"vz/dump/Dump.{CTID}").exists()


def loaded(host: HostOS) -> None:
    """Its kernel has its checkpointing modules."""
    for file in ("cpt", "rst"):
        (host.node.root / "proc" / file).touch()


def test_memory_is_saved_and_it_goes_on_from_there(host: HostOS) -> None:
    loaded(host)
    host.guest(spec())
    dump = host.node.root / f"vz/dump/Dump.{CTID}"
    assert host.thrice(spec(state="saved")).steps == ["configure", "save"]
    assert host.state == "saved" and dump.exists()
    assert host.thrice(spec()).steps == ["configure", "restore"]
    assert host.state == "running" and not dump.exists()
    host.guest(spec(state="paused"))
    assert host.thrice(spec(state="saved")).steps == ["resume", "save"]
    assert host.thrice(spec(state="paused")).steps == ["restore", "pause"]
    host.guest(spec(state="saved"))
    assert host.thrice(spec(state="stopped")).steps == ["restore", "stop"]
    assert host.state == "stopped" and not dump.exists()
    host.guest(spec())
    host.guest(spec(state="saved"))
    assert host.thrice(spec(state="absent")).steps == ["restore", "stop", "unregister"]
    assert host.state == "absent" and not dump.exists()
    host.guest(spec())
    host.guest(spec(state="saved"))
    assert host.thrice(spec(state="absent"), remove_disks=True).steps == ["destroy"]
    assert host.state == "absent" and not dump.exists()


def test_what_cannot_be_saved_or_changed_under_a_dump_is_refused(host: HostOS) -> None:
    host.guest(spec())

    def refused(named: str, **changes: t.Any) -> None:
        for check in (True, False):
            before = host.tree()
            (outcome,) = host.guest(spec(**changes), check=check).outcomes
            assert outcome.error is not None and named in outcome.error, outcome.error
            assert host.tree() == before

    refused("save is missing on this HostOS: no /proc/cpt and /proc/rst here: `modprobe vzcpt vzrst`", state="saved")
    (host.node.root / "proc/cpt").touch()
    refused("no /proc/rst here: `modprobe vzrst`", state="saved")
    loaded(host)
    host.guest(spec(state="saved"))
    refused("its memory is saved, and vcpus cannot change under it", state="saved", vcpus=3)
    host.guest(spec(state="stopped"))
    refused("it is stopped: there is no running memory to save", state="saved")


def test_a_dump_is_seen_also_while_its_container_is_mounted(host: HostOS) -> None:
    """vzlist says `mounted` then, and `vzctl start` would throw away a dump that it cannot restore."""
    loaded(host)
    host.guest(spec())
    host.guest(spec(state="saved"))
    host.node.good("vzctl", "mount", CTID)
    listed = host.node.good("vzlist", "-a", "-H", "-o", "status").strip()
    assert (listed, host.state) == ("mounted", "saved")
    assert host.thrice(spec()).steps == ["configure", "restore"]
    host.guest(spec(state="saved"))
    host.node.good("vzctl", "mount", CTID)
    assert host.thrice(spec(state="absent"), remove_disks=True).error is None
    assert host.state == "absent" and not (host.node.root / f"vz/dump/Dump.{CTID}").exists()


def test_a_dump_that_somebody_makes_between_plan_and_start_is_not_thrown_away(host: HostOS) -> None:
    host.guest(spec(state="stopped"))
    driver = host.driver()
    change = driver.plan(GuestSpec.from_plain(spec()), driver.observe_all().guests[UUID])
    host.node.good("vzctl", "start", CTID)
    host.node.good("vzctl", "suspend", CTID)
    host.node.fault("resume 17 1")
    with pytest.raises(StepFailed, match=f"`vzctl resume {CTID}` failed with code 17"):
        driver.apply(change)
    assert (host.node.root / f"vz/dump/Dump.{CTID}").exists()


def test_one_that_cannot_be_saved_runs_on(host: HostOS) -> None:
    loaded(host)
    host.guest(spec())
    host.node.fault("suspend 16 1")
    (outcome,) = host.guest(spec(state="saved")).outcomes
    assert outcome.error is not None and f"`vzctl suspend {CTID}` failed with code 16" in outcome.error
    assert host.state == "running"
    assert host.thrice(spec(state="saved")).steps == ["save"]


def test_checkpoints_are_asked_of_the_kernel(host: HostOS) -> None:
    def lacking() -> set[str]:
        return {name for name, found in host.driver().capabilities().items() if not found.supported}

    always = {"live_disk", "uefi", "overlay", "rebuild"}
    assert lacking() == always | {"save", "live_move", "live_move_local_disk"}
    (host.node.root / "proc/cpt").touch()
    assert lacking() == always | {"save"}
    loaded(host)
    assert lacking() == always


def _tail(module: t.Any) -> tuple[t.Any, ...]:
    return t.cast("tuple[t.Any, ...]", module.Tools.__init__.__defaults__[2:])


def test_refusals_before_anything_changes(host: HostOS) -> None:
    def refused(wish: dict[str, t.Any], named: str) -> None:
        before = host.tree()
        (outcome,) = host.guest(wish).outcomes
        assert outcome.error is not None and named in outcome.error, outcome.error
        assert host.tree() == before

    refused(spec(firmware="uefi"), "no firmware")
    refused(spec(command_line="root=UUID=1 ro"), "boot: kernel; a container boots none")
    refused(spec(state="saved"), "it is not there: there is no running memory to save")
    refused(spec(first_contact=True), "recreate: true")
    refused(spec(disks=[{"name": "root", "size": 2**30, "pool": "local", "build_id": "cd" * 32}]), "not in")
    refused(spec(disks=[{"name": "root", "size": 2**30, "pool": "p", "build_id": "cd" * 32}]), "pools of this HostOS")
    refused(spec(disks=[{"name": "root", "size": 2**30, "pool": "p"}]), "build_id")
    host.private.mkdir(parents=True)
    refused(spec(), "nothing says that it belongs to this guest")
    host.private.rmdir()
    host.node.good("vzctl", "set", CTID, "--cpus", "1", "--save")  # the orphan of a missing container
    refused(spec(), "without a container")
    (host.node.root / f"etc/vz/conf/{CTID}.conf").unlink()
    host.node.good("vzctl", "create", "201", "--ostemplate", "tiny-1.0-x86_64", "--name", "wn001")
    refused(spec(), "container 201 has its name")
    host.node.good("vzctl", "create", CTID, "--ostemplate", "tiny-1.0-x86_64")
    refused(spec(name="wn009"), f"container {CTID} ({CTID}) is here")


def test_a_stale_spec_starts_nothing(host: HostOS) -> None:
    host.guest(spec(epoch=3, state="stopped"))
    (outcome,) = host.guest(spec(epoch=2)).outcomes
    assert outcome.error is not None and "stale" in outcome.error and host.state == "stopped"
    Tombstones(str(host.state_dir)).write(Tombstone(UUID, 3, MOVED, "wn001", "node02"))
    (outcome,) = host.guest(spec(epoch=3)).outcomes
    assert outcome.error is not None and "moved away to node02" in outcome.error and host.state == "stopped"
    (outcome,) = host.guest(spec(epoch=3, state="absent")).outcomes
    assert outcome.error is not None and host.private.exists()


def test_a_copied_configuration_is_not_ours(host: HostOS) -> None:
    host.guest(spec())
    text = host.conf.replace('NAME="wn001"', 'NAME="copy"')
    (host.node.root / "etc/vz/conf/777.conf").write_text(text)
    (host.node.root / "vz/private/777").mkdir()
    observation = host.driver().observe_all()
    assert [seen.native.ctid for seen in observation.guests.values()] == [CTID]
    assert [seen.native.ctid for seen in observation.foreign] == ["777"]


def test_exit_code_0_of_a_start_is_not_believed(host: HostOS) -> None:
    host.guest(spec(state="stopped"))
    driver = host.driver()
    observation = driver.observe_all()
    plan = driver.plan(GuestSpec.from_plain(spec()), observation.guests[UUID])

    def lies(argv: t.Sequence[str], timeout: float) -> t.Any:
        from ansible_collections.oscarv.virt.plugins.module_utils._vz_run import Output

        return Output(0, "Container start in progress...", "") if argv[1] == "start" else host.execute(argv, timeout)

    driver.tools._execute = lies
    with pytest.raises(DriverError, match=f"returned 0, but container {CTID} is stopped"):
        driver.apply(plan)


def test_a_container_that_went_away_gets_no_orphan(host: HostOS) -> None:
    host.guest(spec(state="stopped"))
    driver = host.driver()
    plan = driver.plan(GuestSpec.from_plain(spec(vcpus=4, state="stopped")), driver.observe_all().guests[UUID])
    host.node.good("vzctl", "destroy", CTID)
    with pytest.raises(DriverError, match="went away meanwhile"):
        driver.apply(plan)
    assert not (host.node.root / f"etc/vz/conf/{CTID}.conf").exists()


def test_the_report_is_that_of_every_driver(host: HostOS) -> None:
    result = host.guest(spec(), check=True)
    told = result_plain(result, "demo", check=True, prune="report")
    assert told["changed"] and told["guests"]["wn001"]["state"] == "running"
    assert "ssh-ed25519 AAAA admin" not in str(diffs(result))
    host.guest(spec())
    host.node.good("vzctl", "create", "201", "--ostemplate", "tiny-1.0-x86_64")
    told = result_plain(host.guest(spec()), "demo", check=False, prune="report")
    assert not told["changed"] and [one["name"] for one in told["foreign"]] == ["201"]


def test_capabilities_are_complete_and_nothing_is_pretended(host: HostOS) -> None:
    driver = host.driver()
    found = driver.capabilities()
    assert set(found) == set(CAPABILITIES)
    assert all(one.supported or one.reason for one in found.values())
    assert not found["live_move"].supported and found["cold_move"].supported
