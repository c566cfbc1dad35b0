# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a plain machine to a HostOS and back, for real. The tests build on each other, in this order."""

from __future__ import annotations

import json
import pathlib
import re
import sqlite3
import time
import typing as t

import pytest
from conftest import SUITES, HostOSes, Watch

SERIAL = "openssl x509 -noout -serial -in /etc/pki/libvirt/servercert.pem"
TINY = """
<domain type='qemu'><name>tiny</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/lib/oscarv/tiny.qcow2'/>
<target dev='vda' bus='virtio'/></disk>
<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface></devices></domain>
"""


def test_a_machine_that_cannot_run_kvm_is_refused_and_left_as_it_was(hostoses: HostOSes) -> None:
    run = hostoses.hostos("--limit", "node01", hostos_kvm_emulation=False)
    assert run.code != 0
    assert "node01 cannot run KVM: its CPU shows neither vmx nor svm" in run.text
    assert "hostos_kvm_emulation: true" in run.text
    assert run.changed() == {"node01": 0}
    assert "installed" not in hostoses.ssh("node01", "dpkg-query -W -f '${Status}' qemu-system-x86", code=1)


def test_check_mode_on_a_fresh_machine_says_what_would_come_and_changes_nothing(hostoses: HostOSes) -> None:
    before = {host: hostoses.ssh(host, "find /etc /var/lib /usr -xdev | sort | md5sum") for host in SUITES}
    run = hostoses.hostos("--check", "--diff").ok()
    assert all(count > 0 for count in run.changed().values()), run.text
    assert "would get" in run.text and "libvirt-daemon-system" in run.text
    assert {host: hostoses.ssh(host, "find /etc /var/lib /usr -xdev | sort | md5sum") for host in SUITES} == before
    assert not (hostoses.folder / ".oscarv/pki").exists()


def test_a_network_that_breaks_the_connection_is_taken_back(
    hostoses: HostOSes, watch: t.Callable[[str], Watch], record_property: t.Callable[[str, object], None]
) -> None:
    """Both get their bridge, but node02's has no address: the machine must save itself."""
    hostoses.ssh(
        "node02",
        "d=/etc/systemd/network/05-oscarv-br0.network.d; mkdir $d; printf '[Network]\\nAddress=\\n' > $d/broken.conf",
    )
    seen = watch("node01")
    run = hostoses.hostos(hostos_kvm_network_rollback=15)
    time.sleep(0.5)
    alive = len(seen.lines)
    time.sleep(1)
    seen.end()
    record_property("seconds", round(run.seconds))
    record_property("gap_ms", round(seen.pinger.longest_gap() * 1000))

    assert run.code != 0
    assert run.recap["node02"]["failed"] == 1 and run.recap["node02"]["unreachable"] == 0, run.text
    assert "so it went back to the old one" in run.text
    links = json.loads(hostoses.ssh("node02", "ip -j addr"))
    assert "br0" not in [link["ifname"] for link in links]
    assert hostoses.ssh("node02", "ls /etc/systemd/network") == "05-oscarv-br0.network.d\n50-host0.network"
    assert "oscarv-network-rollback" not in hostoses.ssh("node02", "systemctl list-units --all; find /etc/systemd")

    assert run.recap["node01"]["failed"] == 0, run.text
    assert len(seen.lines) > alive, "the ssh session that was open before did not survive"
    assert seen.pinger.longest_gap() < 2.0


def test_the_second_run_completes_what_the_first_could_not(hostoses: HostOSes) -> None:
    hostoses.ssh("node02", "rm -r /etc/systemd/network/05-oscarv-br0.network.d")
    hostoses.hostos().ok()


def test_another_run_changes_nothing_in_check_mode_and_for_real(
    hostoses: HostOSes, record_property: t.Callable[[str, object], None]
) -> None:
    for arguments in (("--check", "--diff"), ()):
        run = hostoses.hostos(*arguments).ok()
        record_property(f"seconds {' '.join(arguments)}", round(run.seconds, 1))
        assert run.changed() == dict.fromkeys(SUITES, 0), run.text


def test_the_bridge_carries_what_the_link_carried(hostoses: HostOSes) -> None:
    for host in SUITES:
        links = {link["ifname"]: link for link in json.loads(hostoses.ssh(host, "ip -j addr"))}
        assert links["host0"]["master"] == "br0"
        assert links["host0"]["addr_info"] == []
        assert links["br0"]["address"] == links["host0"]["address"], "the machine's MAC address must stay"
        assert [address["local"] for address in links["br0"]["addr_info"]] == [hostoses.address(host)]
        assert "dev br0" in hostoses.ssh(host, "ip route show default")


def test_the_ledger_knows_the_hostoses(hostoses: HostOSes) -> None:
    with sqlite3.connect(hostoses.folder / ".oscarv/ledger.sqlite") as ledger:
        rows = {row[0]: row[1:] for row in ledger.execute("select name, vcpus, memory, disk, cpu from oscarv_host")}
    assert rows.keys() == SUITES.keys()
    for vcpus, memory, disk, cpu in rows.values():
        assert (vcpus, memory, disk) == (4, 4 * 2**30, 20 * 2**30), "the lab's capacity, not what was measured"
        assert json.loads(cpu)["baseline"]["model"], "the CPU that both have in common"


def test_libvirt_answers_the_other_hostos_and_nobody_without_its_certificate(hostoses: HostOSes) -> None:
    for host, other in (("node01", "node02"), ("node02", "node01")):
        uri = f"qemu+tls://{hostoses.address(other)}/system"
        assert "qemu+tls" in hostoses.ssh(host, f"virsh -c {uri} uri")
        assert "failed to connect" in hostoses.ssh(
            host,
            f"mkdir -p /tmp/none && cp /etc/pki/CA/cacert.pem /tmp/none && virsh -c '{uri}?pkipath=/tmp/none' list",
            code=1,
        )
        qemus = "; ".join(
            f"cp /etc/pki/qemu/{source} /tmp/qemu/{target}"
            for source, target in [
                ("ca-cert.pem", "cacert.pem"),
                ("client-cert.pem", "clientcert.pem"),
                ("client-key.pem", "clientkey.pem"),
            ]
        )
        said = hostoses.ssh(
            host, f"mkdir -p /tmp/qemu; {qemus}; virsh -c '{uri}?pkipath=/tmp/qemu' list; rm -r /tmp/qemu /tmp/none"
        )
        assert "failed to connect" in said, "QEMU's key must not open libvirt"


def test_a_machine_that_is_no_hostos_does_not_get_through(hostoses: HostOSes) -> None:
    """node02 borrows an address that is not on the list; the same port answers to its own."""
    target = hostoses.address("node01")
    connect = (
        "python3 -c 'import socket, sys; s = socket.socket(); s.bind((sys.argv[1], 0)); s.settimeout(3);"
        f' print(s.connect_ex(("{target}", int(sys.argv[2]))))\''
    )
    hostoses.ssh("node02", "ip addr add 10.88.7.77/24 dev br0")
    codes = hostoses.ssh(
        "node02",
        "; ".join(
            f"{connect} {address} {port}"
            for address in (hostoses.address("node02"), "10.88.7.77")
            for port in (16514, 49215)
        ),
    ).split()
    hostoses.ssh("node02", "ip addr del 10.88.7.77/24 dev br0")
    refused, no_route = "111", "113"
    assert codes == ["0", refused, no_route, no_route]


def test_a_guest_moves_alive_and_encrypted_with_its_disk(hostoses: HostOSes) -> None:
    """libvirt and QEMU alone, to show what this role is responsible for."""
    for host in SUITES:
        hostoses.ssh(
            host,
            "cd /var/lib/oscarv && truncate -s 8M builds/base.raw &&"
            " qemu-img create -q -f qcow2 -b /var/lib/oscarv/builds/base.raw -F raw tiny.qcow2",
        )
    hostoses.ssh(
        "node01", f'cat > /tmp/tiny.xml <<"EOF"\n{TINY}\nEOF\nvirsh -q define /tmp/tiny.xml && virsh -q start tiny'
    )
    source = hostoses.ssh("node01", "cat /var/log/libvirt/qemu/tiny.log")
    assert "tls-creds-x509" not in source
    hostoses.ssh(
        "node01",
        "virsh -q migrate --live --p2p --tls --persistent --undefinesource --copy-storage-inc"
        f" tiny qemu+tls://{hostoses.address('node02')}/system",
    )
    assert "tiny" not in hostoses.ssh("node01", "virsh -q list --all")
    assert "running" in hostoses.ssh("node02", "virsh -q list --all")


def test_a_restart_keeps_everything_but_a_network_change_that_nobody_confirmed(hostoses: HostOSes) -> None:
    """The way back of an unconfirmed change is on disk before the change: the timer is lost, the boot does it."""
    hostoses.ssh("node02", "virsh -q autostart tiny")
    hostoses.hostos().ok()  # the ledger learns that a foreign guest takes room there
    boot = hostoses.ssh("node02", "cat /proc/sys/kernel/random/boot_id")
    wish = {
        "files": {"/etc/systemd/network/05-oscarv-br9.netdev": "[NetDev]\nName=br9\nKind=bridge\n"},
        "expect": {"br9": {"port": None, "addressed": False}},
        "rollback_seconds": 3600,
    }
    home = "/var/lib/oscarv-host/network"
    hostoses.ssh(
        "node02", f"cat > {home}/wish.json <<'EOF'\n{json.dumps(wish)}\nEOF\npython3 {home}/network_switch.py apply"
    )
    assert "br9" in hostoses.ssh("node02", "sleep 5; ip link show br9")
    # It has nothing that would heed a shutdown, and libvirt-guests would wait for it.
    hostoses.ssh("node02", "virsh -q destroy tiny")
    hostoses.ssh("node02", "systemctl reboot", code=None)
    hostoses.wait_for("node02", boot)

    assert "br9" not in hostoses.ssh("node02", "ls /etc/systemd/network; ip link")
    assert '"rolled_back"' in hostoses.ssh("node02", f"cat {home}/state.json")
    said = hostoses.ssh(
        "node02", "virsh -q pool-list --all --details; ip -br addr show br0; nft list table inet oscarv_hostos"
    )
    assert re.search(r"local +running +yes", said), said
    assert hostoses.address("node02") in said and "hostos4" in said
    hostoses.ssh("node01", f"virsh -c qemu+tls://{hostoses.address('node02')}/system uri")
    run = hostoses.hostos().ok()
    assert run.changed() == dict.fromkeys(SUITES, 0), run.text
    hostoses.ssh("node02", "virsh -q destroy tiny; virsh -q undefine tiny")


def test_a_restart_that_a_killed_run_missed_is_made_up_and_the_table_goes_with_its_wish(hostoses: HostOSes) -> None:
    began = "systemctl show --property=ExecMainStartTimestampMonotonic libvirtd.service"
    before = hostoses.ssh("node01", f"touch /etc/libvirt/libvirtd.conf; {SERIAL}; {began}").splitlines()
    wish = {"hostos_kvm_pki_renew_days": 10, "hostos_kvm_pki_days": 900, "hostos_kvm_firewall": "false"}
    run = hostoses.hostos("--limit", "node01", **wish).ok()
    after = hostoses.ssh("node01", f"{SERIAL}; {began}").splitlines()
    assert "Started before their settings were written, and to be restarted: libvirtd.service" in run.text
    assert after[0] == before[0], "certificates that are good for long stay"
    assert after[1] != before[1]
    traces = hostoses.ssh("node01", "nft list tables; ls /etc/oscarv /etc/systemd/system; systemctl list-units --all")
    assert "hostos-firewall" not in traces and "table inet oscarv" not in traces


@pytest.mark.long
def test_certificates_that_end_soon_are_issued_again(hostoses: HostOSes) -> None:
    before = hostoses.ssh("node01", SERIAL)
    run = hostoses.hostos("--limit", "node01", hostos_kvm_pki_renew_days=800, hostos_kvm_pki_days=900).ok()
    assert "they expire on" in run.text
    assert hostoses.ssh("node01", SERIAL) != before
    assert "table inet oscarv" in hostoses.ssh("node01", "nft list tables"), "wished again by default"
    hostoses.ssh("node02", f"virsh -c qemu+tls://{hostoses.address('node01')}/system uri")


def test_a_lost_authority_is_refused_before_anything_changes(hostoses: HostOSes, tmp_path: pathlib.Path) -> None:
    run = hostoses.hostos("--limit", "node01", hostos_kvm_pki_dir=str(tmp_path / "empty"))
    assert run.code != 0
    assert "node01 has certificates of another authority" in run.text and "hostos_kvm_pki_replace_ca" in run.text
    assert not (tmp_path / "empty").exists()


def test_absent_takes_back_what_the_role_wrote_and_keeps_data(
    hostoses: HostOSes, watch: t.Callable[[str], Watch]
) -> None:
    seen = watch("node01")
    arguments = {"hostos_kvm_state": "absent", "hostos_kvm_remove_bridges": "true"}  # as -e gives it: text
    hostoses.hostos("--limit", "node01", **arguments).ok()
    seen.end()
    assert seen.pinger.longest_gap() < 2.0
    left = hostoses.ssh(
        "node01",
        "grep -rl oscarv /etc --exclude-dir=network --exclude='oscarv-lab*'; ls /etc/systemd/network; nft list tables;"
        " ls /etc/pki; virsh -q pool-list --all; ss -ltn | grep 16514; ip -br link | grep br0;"
        " ls /var/lib/oscarv/builds",
        code=None,
    )
    assert left.split("\n") == ["50-host0.network", "base.raw"], left
    again = hostoses.hostos("--limit", "node01", **arguments).ok()
    assert again.changed() == {"node01": 0}, again.text
