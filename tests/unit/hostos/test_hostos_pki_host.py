# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A HostOS's certificates in a folder of the test: what pki.py installs, observe.py sees; killed at any write."""

from __future__ import annotations

import dataclasses
import grp
import os
import pathlib
import time
import types
import typing as t

import pytest
from hostos_scripts import script

NAMES = ["node01", "10.0.0.5"]


class Killed(BaseException):
    """As if by kill -9: nothing catches it."""


@dataclasses.dataclass
class HostOS:
    pki: types.ModuleType
    observer: types.ModuleType

    def install(self, **more: t.Any) -> None:
        self.pki.request()
        wish = {"ca": "CA\n", "certificates": {"libvirt": "L", "qemu": "Q"}, "names": NAMES}
        own_group = grp.getgrgid(os.getgid()).gr_name
        self.pki.install({**wish, "group": own_group, "not_after": time.time() + 400 * 86400, **more})

    def look(self, **more: t.Any) -> dict[str, t.Any]:
        wish = {"paths": list(self.pki.FILES), "names": NAMES, "ca": self.pki.fingerprint("CA"), "renew_days": 180}
        answer: dict[str, t.Any] = self.observer.certificates({**wish, **more})
        return answer


@pytest.fixture
def hostos(tmp_path: pathlib.Path) -> HostOS:
    pki, observer = script("hostos_kvm", "pki"), script("hostos_kvm", "observe")
    pki.HOME = tmp_path / "oscarv"
    pki.NEW = pki.HOME / "new"
    pki.MANIFEST = observer.MANIFEST = pki.HOME / "manifest.json"
    pki.FILES = {str(tmp_path) + path: what for path, what in pki.FILES.items()}
    return HostOS(pki, observer)


def test_what_was_installed_is_seen_as_it_should_be(hostos: HostOS) -> None:
    assert hostos.look()["reasons"] == ["there are none"]
    hostos.install()
    assert hostos.look() == {"reasons": [], "foreign": [], "ca": hostos.pki.fingerprint("CA")}


def test_qemu_can_read_its_own_key_and_not_that_of_libvirt(hostos: HostOS) -> None:
    hostos.install()
    modes = {pathlib.Path(path).name: pathlib.Path(path).stat().st_mode & 0o777 for path in hostos.pki.FILES}
    assert modes["server-key.pem"] == modes["client-key.pem"] == 0o640
    assert modes["serverkey.pem"] == modes["clientkey.pem"] == 0o600
    keys = {path: pathlib.Path(path).read_text() for path, (what, _mode) in hostos.pki.FILES.items() if "key" in what}
    assert len(set(keys.values())) == 2, "libvirt and QEMU have a key each"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"names": ["node01", "10.0.0.6"]}, "they are for node01, 10.0.0.5"),
        ({"ca": "other"}, "they are of another certificate authority"),
        ({"renew_days": 500}, "they expire on"),
    ],
)
def test_issued_again_when(hostos: HostOS, change: dict[str, t.Any], reason: str) -> None:
    hostos.install()
    reasons = hostos.look(**change)["reasons"]
    assert len(reasons) == 1
    assert reasons[0].startswith(reason)


@pytest.mark.parametrize("how", ["changed", "removed", "opened"])
def test_issued_again_when_a_file_was(hostos: HostOS, how: str) -> None:
    hostos.install()
    path = pathlib.Path(next(path for path in hostos.pki.FILES if path.endswith("serverkey.pem")))
    {"changed": lambda: path.write_text("x"), "removed": path.unlink, "opened": lambda: path.chmod(0o644)}[how]()
    assert hostos.look()["reasons"] == ["files were changed or removed"]


@pytest.mark.parametrize("renewal", [False, True])
@pytest.mark.parametrize("writes", range(12))
def test_killed_after_any_write_the_next_run_issues_again(
    hostos: HostOS, monkeypatch: pytest.MonkeyPatch, writes: int, renewal: bool
) -> None:
    if renewal:
        hostos.install()
    write = hostos.pki.write
    left = [writes]

    def killed(*arguments: t.Any) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        write(*arguments)

    hostos.pki.write = killed
    with pytest.raises(Killed):
        hostos.install(ca="NEW CA\n")
    seen = hostos.look(ca="")
    assert seen["foreign"] == [], "our own half-installed files must not be taken for somebody else's"
    hostos.pki.write = write
    if not (renewal and writes == 0):  # nothing was touched yet: the old ones are still whole
        assert seen["reasons"] != []
    hostos.install()
    assert hostos.look()["reasons"] == []


def test_somebody_elses_certificates_are_named(hostos: HostOS) -> None:
    path = pathlib.Path(next(iter(hostos.pki.FILES)))
    path.parent.mkdir(parents=True)
    path.write_text("somebody else's")
    assert hostos.look()["foreign"] == [str(path)]


def test_removal_leaves_nothing_of_ours_and_everything_of_others(hostos: HostOS, tmp_path: pathlib.Path) -> None:
    hostos.install()
    other = pathlib.Path(next(iter(hostos.pki.FILES))).with_name("other.pem")
    other.write_text("x")
    hostos.pki.remove()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [other]
