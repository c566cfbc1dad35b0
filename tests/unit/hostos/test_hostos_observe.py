# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role sees of its own in files of others, and libvirt's pools on libvirt's test driver."""

from __future__ import annotations

import os
import pathlib
import types
import typing as t

import libvirt
import pytest
from hostos_scripts import script
from lxml import etree

MARKER = "oscarv.virt hostos_kvm"


def block(content: str) -> str:
    return f"# BEGIN {MARKER}\n{content}# END {MARKER}\n"


@pytest.mark.parametrize(
    ("text", "differs"),
    [
        (block("a = 1\n") + "b = 2\n", False),
        ("b = 2\n" + block("a = 1\n"), False),
        (block("a = 2\n"), True),
        (block("a = 1\n") + block("a = 1\n"), True),
        ("a = 1\n", True),
        ("", True),
        (None, True),
    ],
)
def test_a_block_is_there_whole_and_once_or_not(tmp_path: pathlib.Path, text: str | None, differs: bool) -> None:
    path = tmp_path / "libvirtd.conf"
    if text is not None:
        path.write_text(text)
    found = script("hostos_kvm", "observe").differing_blocks({str(path): "a = 1\n"}, MARKER)
    assert found == ([str(path)] if differs else [])


NOW, UP = 1_000_000.0, 500.0


@pytest.mark.parametrize(
    ("state", "began", "written", "found"),
    [
        ("active", 400, [NOW - 101, NOW - 200], []),
        ("active", 400, [NOW - 200, NOW - 99], ["libvirtd.service"]),
        ("inactive", 400, [NOW - 99], []),
        ("active", 400, [NOW + 3600], []),  # the clock was set back: else it were restarted by every run
        ("active", 400, [None], []),
    ],
)
def test_a_service_that_began_before_its_settings_were_written_is_found(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    began: int,
    written: list[float | None],
    found: list[str],
) -> None:
    observe = script("hostos_kvm", "observe")
    said = f"Id=libvirtd.service\nActiveState={state}\nExecMainStartTimestampMonotonic={began * 1_000_000}\n"
    monkeypatch.setattr(observe, "output", lambda *_command: said)
    monkeypatch.setattr(observe, "time", types.SimpleNamespace(time=lambda: NOW, monotonic=lambda: UP))
    files = [tmp_path / f"{number}.conf" for number in range(len(written))]
    for path, when in zip(files, written, strict=True):
        if when is not None:
            path.touch()
            os.utime(path, (when, when))
    assert observe.outdated(["libvirtd.service"], [str(path) for path in files]) == found


def test_a_unit_is_up_when_it_is_active_and_enabled_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    observe = script("hostos_kvm", "observe")
    units = {
        "a.service": ("active", "enabled"),
        "b.service": ("active", "disabled"),
        "c.service": ("inactive", "enabled"),
        "d.service": ("inactive", ""),  # not installed
    }

    def output(*command: str) -> str:
        assert command == ("systemctl", "show", "--property=Id,ActiveState,UnitFileState", *units)
        shown = "Id={}\nActiveState={}\nUnitFileState={}\n"
        return "\n".join(shown.format(name, *states) for name, states in units.items())

    monkeypatch.setattr(observe, "output", output)
    assert observe.units_down(list(units)) == ["b.service", "c.service", "d.service"]
    assert observe.units_down([]) == []  # without a name systemctl would show itself


NODE = """<node>
<domain type='test'><name>test</name><memory>8192</memory><os><type>hvm</type></os><devices/></domain>
<network><name>default</name><bridge name='virbr0'/><ip address='192.168.122.1' netmask='255.255.255.0'/></network>
<pool type='dir'><name>default-pool</name><target><path>/default-pool</path></target></pool>
</node>"""


@pytest.fixture
def connection(tmp_path: pathlib.Path) -> t.Iterator[libvirt.virConnect]:
    """A hypervisor of the test's own, where test:///default is one for the whole process; guest, pool, network run."""
    (tmp_path / "node.xml").write_text(NODE)
    opened = libvirt.open(f"test://{tmp_path}/node.xml")
    yield opened
    opened.close()


@pytest.fixture
def pools() -> types.ModuleType:
    return script("hostos_kvm", "pools")


def make(
    pools: types.ModuleType, connection: libvirt.virConnect, pool: dict[str, t.Any], check: bool = False
) -> list[str]:
    objects = pools.Objects(connection, check)
    there = {found.name(): found for found in connection.listAllStoragePools(0)}
    objects.present(pool, there)
    return list(objects.changes)


def test_a_pool_is_made_once_and_check_mode_says_what_would_be_done(
    pools: types.ModuleType, connection: libvirt.virConnect, tmp_path: pathlib.Path
) -> None:
    pool = {"name": "local", "type": "dir", "path": str(tmp_path / "pool")}
    predicted = make(pools, connection, pool, check=True)
    assert not (tmp_path / "pool").exists()
    assert make(pools, connection, pool) == predicted
    assert len(predicted) == 3
    assert (tmp_path / "pool/builds").stat().st_mode & 0o777 == 0o755
    made = connection.storagePoolLookupByName("local")
    assert (made.isActive(), made.autostart()) == (1, 1)
    assert make(pools, connection, pool) == []


def test_what_somebody_changed_on_a_pool_is_mended(
    pools: types.ModuleType, connection: libvirt.virConnect, tmp_path: pathlib.Path
) -> None:
    pool = {"name": "local", "type": "dir", "path": str(tmp_path / "pool")}
    make(pools, connection, pool)
    made = connection.storagePoolLookupByName("local")
    made.destroy()
    made.setAutostart(0)
    (tmp_path / "pool").chmod(0o700)
    assert len(make(pools, connection, pool)) == 3
    assert (made.isActive(), made.autostart()) == (1, 1)
    assert (tmp_path / "pool").stat().st_mode & 0o711 == 0o711, "QEMU runs as its own user"


def test_absent_forgets_a_pool_and_keeps_its_files(
    pools: types.ModuleType, connection: libvirt.virConnect, tmp_path: pathlib.Path
) -> None:
    pool = {"name": "local", "type": "dir", "path": str(tmp_path / "pool")}
    make(pools, connection, pool)
    (tmp_path / "pool/builds/precious").write_text("x")
    objects = pools.Objects(connection, False)
    objects.absent(pool, {found.name(): found for found in connection.listAllStoragePools(0)})
    assert [found.name() for found in connection.listAllStoragePools(0)] == ["default-pool"]
    assert (tmp_path / "pool/builds/precious").exists()


def test_an_nfs_pool_says_whence_it_is_mounted(pools: types.ModuleType) -> None:
    san = {"name": "san", "type": "nfs", "path": "/san", "source": "nas:/export/a&b"}
    late = pools.pool_xml(san, ["sync"])
    assert "<fs:option name='sync'/>" in late
    etree.RelaxNG(file="/usr/share/libvirt/schemas/storagepool.rng").assertValid(etree.fromstring(late))
    xml = pools.pool_xml(san)
    assert "<host name='nas'/><dir path='/export/a&amp;b'/>" in xml


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"source": "nas1://srv/san/"}, None),
        (
            {"source": "nas2:/srv/san"},
            "pool san is of type netfs at /san from nas1:/srv/san, wanted: of type netfs at /san from nas2:/srv/san",
        ),
        (
            {"type": "dir", "source": None},
            "pool san is of type netfs at /san from nas1:/srv/san, wanted: of type dir at /san",
        ),
    ],
)
def test_a_pool_that_is_mounted_from_elsewhere_is_a_conflict(
    pools: types.ModuleType, monkeypatch: pytest.MonkeyPatch, changed: dict[str, t.Any], said: str | None
) -> None:
    """Its guests would go on from old data on HostOSes that mount the other one."""
    observe = script("hostos_kvm", "observe")
    pool = {"name": "san", "type": "nfs", "path": "/san", "source": "nas1:/srv/san"}
    monkeypatch.setattr(observe, "read", lambda path: pools.pool_xml(pool))
    assert observe.pool_conflicts([{**pool, **changed}]) == ([said] if said else [])


def test_the_default_network_is_stopped_unless_a_guest_uses_it(
    pools: types.ModuleType, connection: libvirt.virConnect
) -> None:
    network = connection.networkLookupByName("default")
    network.setAutostart(1)
    domain = connection.lookupByName("test")
    xml = domain.XMLDesc(0).replace(
        "</devices>", "<interface type='network'><source network='default'/></interface></devices>"
    )
    domain.destroy()
    connection.defineXML(xml)
    objects = pools.Objects(connection, False)
    objects.stop_default_network()
    assert objects.changes == []
    connection.lookupByName("test").undefine()
    objects.stop_default_network()
    assert (network.isActive(), network.autostart()) == (0, 0)
    assert len(objects.changes) == 2
