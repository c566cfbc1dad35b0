# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import itertools

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _vz_argv as argv
from ansible_collections.oscarv.virt.plugins.module_utils._difference import Difference
from ansible_collections.oscarv.virt.plugins.module_utils._driver import DriverError, Unsupported
from ansible_collections.oscarv.virt.plugins.module_utils._spec import GuestSpec
from ansible_collections.oscarv.virt.plugins.module_utils._vz_conf import read_conf
from ansible_collections.oscarv.virt.plugins.module_utils._vz_dialect import LEGACY, VZ7, Dialect
from ansible_collections.oscarv.virt.plugins.module_utils._vz_errors import VzError
from ansible_collections.oscarv.virt.plugins.module_utils._vz_ids import ctid_of, device_of
from ansible_collections.oscarv.virt.plugins.module_utils._vz_mark import describe, read_mark
from ansible_collections.oscarv.virt.plugins.module_utils._vz_run import Output, Tools
from ansible_collections.oscarv.virt.plugins.module_utils._vz_settings import (
    Shape,
    Tuning,
    configured,
    difference,
    refuse,
    refuse_shrinking,
    wanted,
)
from recorded import recorded
from vz_plain import MIB, UUID, plain

OLD, NEW = Dialect(LEGACY, "4.11.1"), Dialect(VZ7, "7.0.194")


@pytest.fixture
def spec() -> GuestSpec:
    return GuestSpec.from_plain(plain())


def options(before: Shape | None, after: Shape, dialect: Dialect = OLD, *, running: bool = False) -> list[str] | None:
    return argv.settings(dialect, "201", difference(Difference("wn001"), before, after), running=running)


def test_a_new_container_is_told_everything(spec: GuestSpec) -> None:
    assert options(None, wanted(spec)) == [
        *("vzctl", "set", "201", "--ram", str(512 * MIB), "--swap", "0", "--cpus", "2"),
        *("--diskspace", f"{3 * 2**20}:{3 * 2**20}"),
        *("--netif_add", f"eth0,52:54:00:00:00:01,veth{device_of(UUID)}.0,fe:54:00:00:00:01,br0"),
        *("--nameserver", "10.0.4.2", "--hostname", "wn001.cluster.example", "--name", "wn001"),
        *("--onboot", "yes", "--save"),
    ]


def test_vz7_puts_the_nic_onto_its_network_in_a_second_step(spec: GuestSpec) -> None:
    words = options(None, wanted(spec), NEW)
    assert words is not None
    assert words[words.index("--netif_add") + 1].count(",") == 3
    nic = wanted(spec).nics[0]
    assert argv.network(UUID, nic) == ["vzctl", "set", UUID, "--ifname", "eth0", "--network", "br0", "--save"]


def test_what_is_as_wished_is_not_set(spec: GuestSpec) -> None:
    shape = wanted(spec)
    found = Difference("wn001")
    assert argv.settings(OLD, "201", difference(found, shape, shape), running=True) is None
    assert not found.changed


def test_only_what_differs_is_set_and_a_running_one_says_what_to_do_with_the_rest(spec: GuestSpec) -> None:
    shape = wanted(spec)
    before = dataclasses.replace(shape, vcpus=1, autostart=False)
    assert options(before, shape, running=True) == [
        *("vzctl", "set", "201", "--cpus", "2", "--onboot", "yes", "--setmode", "ignore", "--save")
    ]


def test_ram_never_goes_without_swap(spec: GuestSpec) -> None:
    shape = wanted(spec, Tuning(swap=MIB))
    before = dataclasses.replace(shape, memory=MIB)
    assert options(before, shape) == ["vzctl", "set", "201", "--ram", str(512 * MIB), "--swap", str(MIB), "--save"]


def test_the_recorded_configuration_is_what_the_spec_says_after_it_was_set(spec: GuestSpec) -> None:
    conf = read_conf("\n".join(recorded("vzctl set 201 --applyconfig nosuch --save").conf), "201")
    seen = configured(conf)
    assert (seen.memory, seen.swap, seen.vcpus, seen.disk) == (512 * MIB, 128 * MIB, 2, 3072 * MIB)
    assert (seen.cpu_limit, seen.cpu_units, seen.name, seen.autostart) == (150, 2000, "beta", True)
    tuned = wanted(spec, Tuning(swap=128 * MIB, cpu_limit=150, cpu_units=2000))
    same = dataclasses.replace(tuned, nics=seen.nics, nameservers=seen.nameservers, name="beta", hostname=seen.hostname)
    assert options(seen, same) is None


def test_sizes_are_rounded_up_to_what_the_tools_keep(spec: GuestSpec) -> None:
    odd = GuestSpec.from_plain(plain(memory=512 * MIB - 5, disks=[{"name": "root", "size": 2**30 + 1, "pool": "p"}]))
    shape = wanted(odd)
    assert (shape.memory, shape.disk) == (512 * MIB, 2**30 + 1024)


def test_cpulimit_never_carries_a_per_cent_sign(spec: GuestSpec) -> None:
    # "50%" is stored multiplied by the number of CPUs of the HostOS
    assert options(None, wanted(spec, Tuning(cpu_limit=50)))[9:11] == ["--cpulimit", "50"]


def test_a_paused_or_stopped_guest_does_not_start_with_its_host() -> None:
    assert wanted(GuestSpec.from_plain(plain(state="stopped"))).autostart is False


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"firmware": "uefi"}, "firmware"),
        ({"cpu": {"model": "host-model"}}, "cpu"),
        ({"disks": [*plain()["disks"], {"name": "scratch", "size": MIB, "pool": "p"}]}, "disks scratch"),
    ],
)
def test_what_a_container_cannot_have_is_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(Unsupported, match=f"guest wn001: {named}.*kvm"):
        refuse(GuestSpec.from_plain(plain(**change)))


def test_a_bad_host_name_is_refused_because_vzctl_would_take_it() -> None:
    with pytest.raises(DriverError, match="guest wn001: hostname 'bad host'"):
        refuse(GuestSpec.from_plain(plain(seed={"hostname": "bad host"})))


def test_a_disk_is_never_shrunk(spec: GuestSpec) -> None:
    before = dataclasses.replace(wanted(spec), disk=4096 * MIB)
    with pytest.raises(DriverError, match="never shrunk"):
        refuse_shrinking(spec, before)


@pytest.mark.parametrize("bad", ['"', "'", "\\", "$", "`", "\n", "\x7f"])
def test_signs_that_the_tools_do_not_keep_are_refused(bad: str) -> None:
    with pytest.raises(DriverError, match="description"):
        argv.create(OLD, "201", "debian", name="wn001", hostname="wn001", description=f"a{bad}b")


def test_an_option_is_never_smuggled_in() -> None:
    with pytest.raises(DriverError, match="dash"):
        argv.create(OLD, "201", "--bogus", name="wn001", hostname="wn001", description="x")


def test_create_per_dialect() -> None:
    words = {"name": "wn001", "hostname": "wn001", "description": "x", "layout": "simfs", "disk": 2048}
    start = ["vzctl", "create", "201", "--ostemplate", "debian"]
    rest = ["--diskspace", "2:2", "--name", "wn001", "--hostname", "wn001", "--description", "x"]
    assert argv.create(OLD, "201", "debian", **words) == [*start, "--layout", "simfs", *rest]
    assert argv.create(NEW, "201", "debian", **words) == [*start, "--skip_app_templates", *rest]


def test_pause_and_suspend_are_two_verbs() -> None:
    assert argv.pause(OLD, "201") == ["vzctl", "chkpnt", "201", "--suspend"]
    assert argv.pause(NEW, "201") == ["vzctl", "pause", "201"]
    assert argv.unpause("201") == ["vzctl", "chkpnt", "201", "--resume"]
    assert (argv.suspend("201")[1], argv.resume("201")[1]) == ("suspend", "resume")


def test_start_never_waits() -> None:
    assert argv.start("201") == ["vzctl", "start", "201"]
    assert argv.stop("201", fast=True) == ["vzctl", "stop", "201", "--fast"]


def test_migrate_per_dialect() -> None:
    assert argv.migrate(OLD, "201", "10.0.0.2", live=True) == ["vzmigrate", "-r", "yes", "--live", "10.0.0.2", "201"]
    assert argv.migrate(NEW, "201", "10.0.0.2", live=True)[3] == "--online"
    for dialect in (OLD, NEW):
        assert "--dry-run" in argv.migrate(dialect, "201", "10.0.0.2", live=True, dry_run=True)
        assert "--dry-run" not in argv.migrate(dialect, "201", "10.0.0.2", live=True)
    assert argv.migrate(OLD, "201", "10.0.0.2", live=False, keep_source=True, ssh=["-p 22"]) == [
        *("vzmigrate", "-r", "no", "--ssh=-p 22", "10.0.0.2", "201")
    ]


def test_the_list_is_asked_for_explicit_fields() -> None:
    assert argv.list_all(OLD)[:4] == ["vzlist", "-a", "-j", "-o"]
    assert "uuid" in argv.list_all(NEW)[4].split(",") and "." not in argv.list_all(NEW)[4]


def test_ids_are_stable_and_fit_a_device_name() -> None:
    ctid = ctid_of(UUID, OLD)
    assert ctid == ctid_of(UUID, OLD) == device_of(UUID)
    assert 10_000_000 <= int(ctid) <= 99_999_999
    assert len(f"veth{ctid}.10") <= 15
    assert ctid_of(UUID, NEW) == UUID


def test_a_mark_comes_back_and_is_safe_everywhere() -> None:
    from ansible_collections.oscarv.virt.plugins.module_utils._driver import Mark

    nics = tuple(
        {"name": f"eth{n}", "network": "n", "mac": f"52:54:00:00:00:0{n}", "addresses": ["10.0.0.1/8"]}
        for n in range(4)
    )
    mark = Mark("demo", "wn001", UUID, "workers", 3, "ab" * 32, "debian", "ssh-ed25519 " + "A" * 68 + ' é"', nics)
    text = describe(mark, "201")
    assert argv.text_of("description", text) == text
    assert text.startswith("oscarv.virt:1:demo/wn001:")
    assert read_mark(text, "201") == mark
    assert read_mark(text, "202") is None  # a clone is not ours
    for other in (None, "", "A test CT", text[:-9], "oscarv.virt:1:demo/wn001:AAAA"):
        assert read_mark(other, "201") is None


class Answers:
    """Stands in for running a command: the recorded or given answers, one after the other."""

    def __init__(self, *answers: Output) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self, words: object, timeout: float) -> Output:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def tools(self, dialect: Dialect = OLD) -> Tools:
        return Tools(dialect, self, sleep=self.sleep, clock=lambda: self.now)


LOCKED = recorded("vzctl set 201 --cpus 1 --save")


def test_a_lock_is_waited_for_with_longer_and_longer_pauses() -> None:
    busy = Output(LOCKED.code, LOCKED.stdout, LOCKED.stderr)
    answers = Answers(busy, busy, busy, Output(0, "done", ""))
    assert answers.tools().run(["vzctl", "start", "201"]).stdout == "done"
    assert len(answers.pauses) == 3
    assert all(second > first for first, second in itertools.pairwise(answers.pauses))


def test_a_lock_that_stays_is_an_error_that_names_its_holder() -> None:
    answers = Answers(Output(LOCKED.code, LOCKED.stdout, LOCKED.stderr))
    with pytest.raises(VzError, match=r"guest wn001: .*another vzctl holds the container's lock.*pid 5108"):
        answers.tools().run(["vzctl", "start", "201"], "wn001")
    assert 29.9 <= answers.now <= 30.1


def test_vzmigrate_has_another_code_for_a_lock_and_20_of_vzctl_is_not_waited_for() -> None:
    answers = Answers(Output(20, "", "CT locked"), Output(0, "", ""))
    assert answers.tools().run(["vzmigrate", "host", "201"]).code == 0
    syntax = Answers(Output(20, "", "vzctl: unrecognized option '--bogus'"))
    with pytest.raises(VzError, match="--bogus"):
        syntax.tools().run(["vzctl", "start", "201", "--bogus"])
    assert syntax.asked == 1


def test_noise_on_stderr_is_no_failure() -> None:
    warning = "WARNING: You are using a deprecated CLI component that will be dropped in the next major release."
    assert Answers(Output(0, "ok", warning)).tools(NEW).run(["vzctl", "start", UUID]).code == 0


def test_a_tool_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DriverError, match="no-such-vzctl is not installed"):
        Tools(OLD).run(["no-such-vzctl", "status", "1"])
