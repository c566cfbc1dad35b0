# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is touched, and who is not: on libvirt's simulator, inside this process."""

from __future__ import annotations

import pathlib
import typing as t
import unittest.mock
import xml.etree.ElementTree as ET

import libvirt
import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _dialect, _kvm_remove, _kvm_rename
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError
from ansible_collections.oscarv.virt.plugins.module_utils._kvm import KvmDriver, Options
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_connection import open_connection
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_observe import observe_all, pool_paths
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_parse import parse
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_world import World
from ansible_collections.oscarv.virt.plugins.module_utils._kvm_xml import console_log
from ansible_collections.oscarv.virt.plugins.module_utils._reconcile import Result, Wish, reconcile
from ansible_collections.oscarv.virt.plugins.module_utils._report import diffs, result_plain
from ansible_collections.oscarv.virt.plugins.module_utils._tombstone import MOVED, MOVING, Tombstone, Tombstones
from ansible_collections.oscarv.virt.plugins.modules import guest_info
from kvm_plain import MIB, clear, plain

FOREIGN = """<domain type='test'><name>{name}</name>{uuid}<memory>65536</memory><os><type>hvm</type></os>
<devices><interface type='bridge'><mac address='{mac}'/><source bridge='br0'/></interface></devices></domain>"""


def guest(number: int, **changes: t.Any) -> dict[str, t.Any]:
    nic = {"name": "eth0", "network": "compute", "mac": f"52:54:00:00:01:{number:02x}", "bridge": "br0"}
    base = {
        "name": f"wn{number:03}",
        "uuid": uuid(number),
        "nics": [nic],
        "disks": [{"name": "root", "size": MIB, "pool": "default-pool"}],
    }
    return plain(**{**base, **changes})


def uuid(number: int) -> str:
    return f"6f7a3f1e-0f0e-4d55-9d3c-{number:012x}"


class Simulator:
    """A HostOS whose guests are only names."""

    def __init__(self, state_dir: pathlib.Path) -> None:
        self.connection = open_connection("test:///default")
        self.state_dir = str(state_dir)
        self.tombstones = Tombstones(self.state_dir)
        clear(self.connection)

    def run(self, specs: t.Sequence[t.Any], *, check: bool = False, cluster: str = "demo", **wish: t.Any) -> Result:
        names = ("allow_restart", "contacted", "force_stop", "remove_disks", "shutdown_timeout")
        options = Options(state_dir=self.state_dir, **{key: wish.pop(key) for key in names if key in wish})
        driver = KvmDriver(options, cluster, self.connection)
        return reconcile(driver, Wish(cluster, specs, **wish), check=check)

    def plain(self, specs: t.Sequence[t.Any], **wish: t.Any) -> dict[str, t.Any]:
        result = self.run(specs, **wish)
        return result_plain(
            result, wish.get("cluster", "demo"), check=wish.get("check", False), prune=wish.get("prune", "report")
        )

    def names(self) -> dict[str, bool]:
        """Name -> whether it runs."""
        return {domain.name(): bool(domain.isActive()) for domain in self.connection.listAllDomains()}

    def define_foreign(self, name: str, mac: str = "52:54:00:99:99:99", uuid: str | None = None) -> t.Any:
        tag = f"<uuid>{uuid}</uuid>" if uuid else ""
        return self.connection.defineXML(FOREIGN.format(name=name, mac=mac, uuid=tag))


@pytest.fixture
def simulator(tmp_path: pathlib.Path) -> t.Iterator[Simulator]:
    made = Simulator(tmp_path / "state")
    yield made
    clear(made.connection)
    made.connection.close()


def test_check_mode_says_what_a_run_does_and_a_second_run_nothing(simulator: Simulator) -> None:
    specs = [
        guest(1),
        guest(2, state="paused"),
        guest(3, state="stopped"),
        guest(4, state="absent"),
        guest(5, state="present"),
    ]
    checked = simulator.plain(specs, check=True)
    assert simulator.names() == {}
    done = simulator.plain(specs)
    assert simulator.names() == {"wn001": True, "wn002": True, "wn003": False, "wn005": False}
    again = simulator.plain(specs)
    for name in ("wn001", "wn002", "wn003", "wn004", "wn005"):
        assert checked["guests"][name]["changed"] == done["guests"][name]["changed"] == (name != "wn004")
        assert checked["guests"][name]["steps"] == done["guests"][name]["steps"]
    states = {name: found["state"] for name, found in done["guests"].items()}
    assert states == {"wn001": "running", "wn002": "paused", "wn003": "stopped", "wn004": "absent", "wn005": "stopped"}
    assert not again["changed"]
    assert all(not found["changed"] and found["steps"] == [] for found in again["guests"].values())
    assert diffs(simulator.run(specs)) == []


@pytest.mark.parametrize("before", ["running", "paused", "stopped", "absent"])
@pytest.mark.parametrize("after", ["running", "paused", "stopped", "present", "absent"])
def test_every_way_from_state_to_state(simulator: Simulator, before: str, after: str) -> None:
    simulator.plain([guest(1, state=before)])
    checked = simulator.plain([guest(1, state=after)], check=True)
    done = simulator.plain([guest(1, state=after)])["guests"]["wn001"]
    expected = {"present": "stopped" if before == "absent" else before}.get(after, after)
    assert done["state"] == expected
    assert checked["guests"]["wn001"]["changed"] is done["changed"]
    assert checked["guests"]["wn001"]["state"] == done["state"] or before == "absent"
    # Autostart belongs to running, so states may differ in it even where the power does not change.
    assert done["changed"] is (before != expected or (before, after) in {("paused", "present"), ("stopped", "present")})
    assert not simulator.plain([guest(1, state=after)])["changed"]


def test_a_guest_that_ends_as_it_is_started_is_no_success(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_and_end(dialect: _dialect.Dialect, domain: libvirt.virDomain, flags: int) -> None:
        domain.createWithFlags(flags)
        domain.destroy()

    monkeypatch.setattr(_dialect.Kvm, "start", start_and_end)
    done = simulator.plain([guest(1), guest(2, state="stopped")])["guests"]
    assert done["wn001"]["failed"] and done["wn001"]["changed"] and "start" in done["wn001"]["steps"]
    assert done["wn001"]["msg"].startswith("guest wn001: it shall be running, and is stopped right after: ")
    assert not done["wn002"]["failed"]
    monkeypatch.undo()
    again = simulator.plain([guest(1), guest(2, state="stopped")])["guests"]["wn001"]
    assert (again["failed"], again["steps"], again["state"]) == (False, ["start"], "running")


def test_autostart_follows_the_wished_state(simulator: Simulator) -> None:
    simulator.run([guest(1), guest(2, autostart=False), guest(3, state="stopped"), guest(4, state="present")])
    flags = {domain.name(): domain.autostart() for domain in simulator.connection.listAllDomains()}
    assert flags == {"wn001": 1, "wn002": 0, "wn003": 0, "wn004": 1}


def test_one_bad_guest_does_not_stop_the_others(simulator: Simulator) -> None:
    simulator.define_foreign("wn003")
    bad = [
        guest(2, disks=[{"name": "root", "size": MIB, "pool": "nowhere"}]),
        guest(3),
        {"name": "wn004"},
        guest(5, cluster="other"),
        guest(6),
        guest(6),
    ]
    done = simulator.plain([guest(1), *bad])
    assert simulator.names() == {"wn001": True, "wn003": False}
    assert not done["guests"]["wn001"]["failed"]
    errors = {name: found["msg"] for name, found in done["guests"].items() if found["failed"]}
    assert set(errors) == {"wn002", "wn003", "wn004", "wn005", "wn006"}
    assert "guest wn002: disks.root.pool: found 'nowhere'; active pools" in errors["wn002"]
    assert "foreign" in errors["wn003"]
    assert "wn004: key 'cluster' is missing" in errors["wn004"]
    assert "cluster: found 'other'; allowed: 'demo'" in errors["wn005"]


def test_a_foreign_guest_is_counted_shown_and_left_alone(simulator: Simulator) -> None:
    foreign = simulator.define_foreign("somebodys")
    before = foreign.XMLDesc()
    done = simulator.plain(
        [guest(1)], prune="remove", prunable=[{"name": "somebodys", "uuid": foreign.UUIDString(), "epoch": 9}]
    )
    assert [one["name"] for one in done["foreign"]] == ["somebodys"]
    assert foreign.XMLDesc() == before


def test_a_foreign_guest_with_a_wanted_name_uuid_or_mac_refuses_the_guest(simulator: Simulator) -> None:
    simulator.define_foreign("wn001")
    simulator.define_foreign("b", uuid=uuid(2))
    simulator.define_foreign("c", mac="52:54:00:00:01:03")
    done = simulator.plain([guest(1), guest(2), guest(3)])
    assert not done["changed"]
    messages = [done["guests"][name]["msg"] for name in ("wn001", "wn002", "wn003")]
    assert "a domain of this name is here already" in messages[0]
    assert "domain b has its uuid, but not our mark" in messages[1]
    assert "52:54:00:00:01:03 belongs to c" in messages[2]
    assert set(simulator.names()) == {"wn001", "b", "c"}


def test_a_guest_of_another_cluster_is_foreign(simulator: Simulator) -> None:
    simulator.run([guest(1, cluster="other")], cluster="other")
    same_uuid = simulator.plain([guest(1)])
    assert "guest of cluster 'other'" in same_uuid["guests"]["wn001"]["msg"]
    pruned = simulator.plain([guest(2)], prune="remove", prunable=[{"name": "wn001", "uuid": uuid(1), "epoch": 5}])
    assert pruned["pruned"] == []
    assert [(one["name"], one["cluster"]) for one in pruned["foreign"]] == [("wn001", "other")]
    assert simulator.names() == {"wn001": True, "wn002": True}
    assert simulator.plain([guest(1, state="absent")])["guests"]["wn001"]["failed"]


def test_a_clone_of_our_guest_is_foreign(simulator: Simulator) -> None:
    simulator.run([guest(1)])
    text = simulator.connection.lookupByName("wn001").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    simulator.connection.defineXML(
        text.replace(f"<uuid>{uuid(1)}", f"<uuid>{uuid(77)}").replace("<name>wn001", "<name>clone")
    )
    result = simulator.plain([guest(1)])
    assert [one["name"] for one in result["foreign"]] == ["clone"]
    assert not result["changed"] or "nics" in str(result)


@pytest.mark.parametrize("state", ["running", "paused", "stopped", "absent"])
def test_a_stale_spec_changes_nothing(simulator: Simulator, state: str) -> None:
    simulator.run([guest(1, epoch=5)])
    done = simulator.plain([guest(1, epoch=4, state=state, vcpus=4)])
    assert not done["changed"]
    assert "its mark has epoch 5, this spec epoch 4" in done["guests"]["wn001"]["msg"]
    assert simulator.names() == {"wn001": True}


@pytest.mark.parametrize(("epoch", "stone", "refused"), [(3, 3, True), (2, 3, True), (4, 3, False)])
@pytest.mark.parametrize("state", [MOVING, MOVED])
def test_a_tombstone_keeps_a_guest_from_being_made_again(
    simulator: Simulator, epoch: int, stone: int, refused: bool, state: str
) -> None:
    simulator.tombstones.write(Tombstone(uuid(1), stone, state, "wn001", "node02"))
    done = simulator.plain([guest(1, epoch=epoch), guest(2)])
    assert done["guests"]["wn001"]["failed"] is refused
    assert ("wn001" in simulator.names()) is not refused
    assert simulator.names()["wn002"] is True


def test_a_tombstone_keeps_a_stopped_guest_from_being_started_or_pruned(simulator: Simulator) -> None:
    simulator.run([guest(1, epoch=3, state="stopped"), guest(2)])
    simulator.tombstones.write(Tombstone(uuid(1), 3, MOVING, "wn001", "node02"))
    assert simulator.plain([guest(1, epoch=3), guest(2)])["guests"]["wn001"]["failed"]
    assert simulator.plain([guest(1, epoch=3, state="absent"), guest(2)])["guests"]["wn001"]["failed"]
    pruned = simulator.run([guest(2)], prune="remove", prunable=[{"name": "wn001", "uuid": uuid(1), "epoch": 3}])
    assert "oscarv.virt.settle" in str(pruned.outcomes[0].error)
    assert simulator.names() == {"wn001": False, "wn002": True}


def test_an_epoch_may_grow(simulator: Simulator) -> None:
    simulator.run([guest(1, epoch=1)])
    done = simulator.plain([guest(1, epoch=2)])["guests"]["wn001"]
    assert (done["changed"], done["steps"], done["epoch"]) == (True, ["define"], 2)
    running = simulator.connection.lookupByName("wn001").XMLDesc()
    assert 'epoch="2"' in running
    assert not simulator.plain([guest(1, epoch=2)])["changed"]


class TestPrune:
    """What is on a HostOS and in no spec."""

    @staticmethod
    def covered(*numbers: int, epoch: int = 1) -> list[dict[str, t.Any]]:
        return [{"name": f"wn{number:03}", "uuid": uuid(number), "epoch": epoch} for number in numbers]

    def test_reports_by_default_and_removes_nothing(self, simulator: Simulator) -> None:
        simulator.run([guest(1), guest(2)])
        done = simulator.plain([guest(1)], prunable=self.covered(2))
        assert not done["changed"]
        assert [one["name"] for one in done["prunable_found"]] == ["wn002"]
        assert simulator.plain([guest(1)], prune="off", prunable=self.covered(2))["prunable_found"] == []
        assert set(simulator.names()) == {"wn001", "wn002"}

    def test_removes_only_what_the_ledger_covers(self, simulator: Simulator) -> None:
        simulator.run([guest(1), guest(2), guest(3)])
        checked = simulator.plain([guest(1)], prune="remove", prunable=self.covered(2), check=True)
        assert set(simulator.names()) == {"wn001", "wn002", "wn003"}
        done = simulator.plain([guest(1)], prune="remove", prunable=self.covered(2))
        assert [one["name"] for one in checked["pruned"]] == [one["name"] for one in done["pruned"]] == ["wn002"]
        assert [(one["name"], "ledger does not" in one["kept_because"]) for one in done["unnamed_kept"]] == [
            ("wn003", True)
        ]
        assert set(simulator.names()) == {"wn001", "wn003"}
        assert not simulator.plain([guest(1)], prune="remove", prunable=self.covered(2))["changed"]

    def test_keeps_a_guest_that_is_newer_than_the_ledger_knows(self, simulator: Simulator) -> None:
        simulator.run([guest(1), guest(2, epoch=4)])
        done = simulator.plain([guest(1)], prune="remove", prunable=self.covered(2, epoch=3))
        assert (done["changed"], done["pruned"]) == (False, [])
        assert "epoch 4" in done["unnamed_kept"][0]["kept_because"]

    def test_keeps_a_guest_whose_uuid_is_another(self, simulator: Simulator) -> None:
        simulator.run([guest(1), guest(2)])
        other = [{"name": "wn002", "uuid": uuid(99), "epoch": 9}]
        assert simulator.plain([guest(1)], prune="remove", prunable=other)["pruned"] == []
        assert set(simulator.names()) == {"wn001", "wn002"}

    def test_is_off_while_something_is_selected(self, simulator: Simulator) -> None:
        simulator.run([guest(1), guest(2)])
        done = simulator.plain([guest(1)], prune="remove", prunable=self.covered(2), select=["wn001"])
        assert done["pruned"] == []
        assert set(simulator.names()) == {"wn001", "wn002"}

    def test_never_removes_what_a_spec_wants(self, simulator: Simulator) -> None:
        simulator.run([guest(1)])
        assert not simulator.plain([guest(1)], prune="remove", prunable=self.covered(1))["changed"]

    def test_an_empty_list_removes_nothing_that_is_not_covered(self, simulator: Simulator) -> None:
        simulator.run([guest(1), guest(2)])
        for prunable in ([], self.covered(1)):
            with pytest.raises(DriverError, match="specs is empty.*wn002.*Nothing was changed"):
                simulator.run([], prune="remove", prunable=prunable)
        assert set(simulator.names()) == {"wn001", "wn002"}
        assert len(simulator.plain([], prune="remove", prunable=self.covered(1, 2))["pruned"]) == 2
        assert simulator.names() == {}
        assert not simulator.plain([], prune="remove")["changed"]

    def test_a_list_that_cannot_be_read_removes_nothing(self, simulator: Simulator) -> None:
        simulator.run([guest(1), guest(2)])
        with pytest.raises(DriverError, match="specs cannot be read.*unknown key 'colour'"):
            simulator.run([guest(1, colour="red")], prune="remove", prunable=self.covered(2))
        assert set(simulator.names()) == {"wn001", "wn002"}

    def test_makes_room_for_a_new_guest_of_the_same_name(self, simulator: Simulator) -> None:
        simulator.run([guest(1), guest(2)])
        newcomer = guest(7, name="wn002", nics=guest(2)["nics"])
        assert simulator.plain([guest(1), newcomer])["guests"]["wn002"]["failed"]
        done = simulator.plain([guest(1), newcomer], prune="remove", prunable=self.covered(2))
        assert done["guests"]["wn002"]["uuid"] == uuid(7)
        assert simulator.connection.lookupByName("wn002").UUIDString() == uuid(7)


def test_a_selection_changes_only_what_is_selected(simulator: Simulator) -> None:
    done = simulator.plain([guest(1), guest(2)], select=["wn002"])
    assert list(done["guests"]) == ["wn002"]
    assert simulator.names() == {"wn002": True}


def test_a_guest_that_was_undefined_while_it_ran_is_defined_again(simulator: Simulator) -> None:
    simulator.run([guest(1)])
    simulator.connection.lookupByName("wn001").undefine()
    done = simulator.plain([guest(1)])["guests"]["wn001"]
    assert "define" in done["steps"]
    domain = simulator.connection.lookupByName("wn001")
    assert (domain.isPersistent(), domain.isActive()) == (1, 1)
    assert not simulator.plain([guest(1)])["changed"]


def test_a_transient_guest_survives_being_stopped(simulator: Simulator) -> None:
    simulator.run([guest(1)])
    simulator.connection.lookupByName("wn001").undefine()
    done = simulator.plain([guest(1, state="stopped")])["guests"]["wn001"]
    assert done["steps"][:2] == ["define", "shut down"]
    assert simulator.names() == {"wn001": False}


def test_a_rename_keeps_the_guest(simulator: Simulator) -> None:
    simulator.run([guest(1, state="stopped")])
    renamed = guest(1, state="stopped", name="compute-1")
    done = simulator.plain([renamed])["guests"]["compute-1"]
    assert done["changed"]
    assert simulator.names() == {"compute-1": False}
    assert simulator.connection.lookupByName("compute-1").UUIDString() == uuid(1)
    assert not simulator.plain([renamed])["changed"]


def consoles(simulator: Simulator, name: str) -> list[str]:
    """The files that a guest's consoles are logged to."""
    domain = parse(simulator.connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    return sorted({log.get("file", "") for log in domain.findall("devices/*/log")})


def test_a_renamed_guest_leaves_its_console_log_to_the_next_of_its_old_name(simulator: Simulator) -> None:
    """virtlogd refuses one file twice: the next guest would not start."""
    simulator.run([guest(1, state="stopped")])
    simulator.run([guest(1, state="stopped", name="compute-1")])
    simulator.run([guest(1, state="stopped", name="compute-1"), guest(2, state="stopped", name="wn001")])
    assert consoles(simulator, "compute-1") == [console_log("compute-1")]
    assert consoles(simulator, "wn001") == [console_log("wn001")]
    seen = observe_all(simulator.connection, pool_paths(simulator.connection)).guests
    assert seen[uuid(1)].console_log == console_log("compute-1")


def test_a_console_log_that_somebody_else_chose_stays(simulator: Simulator) -> None:
    simulator.run([guest(1, state="stopped")])
    xml = simulator.connection.lookupByName("wn001").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    simulator.connection.defineXML(xml.replace(console_log("wn001"), "/srv/wn001-serial.log"))
    simulator.run([guest(1, state="stopped", name="compute-1")])
    assert consoles(simulator, "compute-1") == ["/srv/wn001-serial.log"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_renamed_guest_takes_its_uefi_variables_along(
    simulator: Simulator, tmp_path: pathlib.Path, shared: bool
) -> None:
    simulator.run([guest(1, state="stopped", firmware="uefi")])
    variables = tmp_path / "wn001_VARS.fd"
    variables.write_text("boot entries")
    domain = parse(simulator.connection.lookupByName("wn001").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    loader = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>"
    system = f"<os><type>hvm</type>{loader}<nvram>{variables}</nvram><boot dev='hd'/></os>"
    replace_os(domain, parse(system))
    simulator.connection.defineXML(ET.tostring(domain, encoding="unicode"))
    if shared:  # with a guest that was renamed before variables were, too
        simulator.connection.defineXML(
            FOREIGN.format(name="other", mac="52:54:00:99:99:99", uuid="").replace(
                "<os><type>hvm</type></os>", system.replace("<boot dev='hd'/>", "")
            )
        )
    renamed = guest(1, state="stopped", name="compute-1", firmware="uefi")
    planned, done = simulator.plain([renamed], check=True), simulator.plain([renamed])
    steps = done["guests"]["compute-1"]["steps"]
    assert f"rename {variables}" in steps and planned["guests"]["compute-1"]["steps"] == steps
    domain = parse(simulator.connection.lookupByName("compute-1").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    assert domain.findtext("os/nvram") == str(tmp_path / "compute-1_VARS.fd")
    assert (tmp_path / "compute-1_VARS.fd").read_text() == "boot entries"
    assert variables.exists() is shared, "what another domain names stays"
    assert not simulator.plain([renamed])["changed"]


def replace_os(domain: ET.Element, system: ET.Element) -> None:
    old = domain.find("os")
    assert old is not None
    domain.remove(old)
    domain.append(system)


def test_logs_take_their_rotated_ones_along(tmp_path: pathlib.Path) -> None:
    for ending in ("", ".0", ".1"):
        (tmp_path / f"wn1-serial.log{ending}").write_text(f"wn1{ending}")
    (tmp_path / "wn10-serial.log").write_text("another guest's")
    (tmp_path / "new-serial.log").write_text("left by an earlier guest")
    _kvm_rename._move_logs(f"{tmp_path}/wn1-serial.log", f"{tmp_path}/new-serial.log")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "new-serial.log": "wn1",
        "new-serial.log.0": "wn1.0",
        "new-serial.log.1": "wn1.1",
        "wn10-serial.log": "another guest's",
    }


@pytest.mark.parametrize("shared", [False, True])
def test_the_log_that_a_removed_guest_named_goes_unless_another_names_it(
    simulator: Simulator, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    simulator.run([guest(1, state="stopped"), guest(2, state="stopped", name="old")])
    for name in ["wn001", *(["old"] if shared else [])]:
        xml = simulator.connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        simulator.connection.defineXML(xml.replace(console_log(name), console_log("was")))
    logs = ["was-serial.log", "was-serial.log.0", "wn001-serial.log"]
    for log in logs:
        (tmp_path / log).touch()
    monkeypatch.setattr(_kvm_remove, "CONSOLE_LOGS", str(tmp_path))
    monkeypatch.setattr(World, "has_files", True)
    simulator.run([guest(1, state="absent")], remove_disks=True)
    assert simulator.names() == {"old": False}
    left = {path.name for path in tmp_path.glob("*.log*")}
    assert left == (set(logs) if shared else {"wn001-serial.log"})


def test_the_console_is_read_where_the_domain_logs_it(
    simulator: Simulator, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.run([guest(1, state="stopped"), guest(2, state="stopped")])
    log = tmp_path / "was-serial.log"
    log.write_text("Kernel panic\n")
    xml = simulator.connection.lookupByName("wn001").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    simulator.connection.defineXML(xml.replace(console_log("wn001"), str(log)))
    options = Options(state_dir=simulator.state_dir)
    monkeypatch.setattr(guest_info, "open_driver", lambda _params: KvmDriver(options, "demo", simulator.connection))
    monkeypatch.setattr(KvmDriver, "close", lambda _self: None)  # the fixture closes the connection
    module = unittest.mock.Mock(params={"cluster": "demo", "consoles": ["wn001", "wn002", "wn003"]})
    monkeypatch.setattr(guest_info, "AnsibleModule", lambda **_arguments: module)
    guest_info.main()
    assert module.exit_json.call_args.kwargs["consoles"] == {"wn001": ["Kernel panic"]}


def test_a_running_guest_is_renamed_with_a_restart_only(simulator: Simulator) -> None:
    simulator.run([guest(1)])
    renamed = guest(1, name="compute-1")
    waiting = simulator.plain([renamed])
    assert waiting["restart_required"] == ["compute-1"]
    assert simulator.names() == {"wn001": True}
    assert simulator.plain([renamed], allow_restart=True)["restart_required"] == []
    assert simulator.names() == {"compute-1": True}


def test_hypervisors_are_not_mixed_up(simulator: Simulator) -> None:
    done = simulator.plain([guest(1, hypervisor="xen")])
    assert "hypervisor 'xen' was asked of the kvm driver" in done["guests"]["wn001"]["msg"]
    assert simulator.names() == {}
