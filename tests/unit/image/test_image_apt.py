# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which archive an image is built from, what apt is told on the way, and sizes of disks."""

from __future__ import annotations

import pytest
from ansible_collections.oscarv.virt.plugins.module_utils import _image_apt as apt
from ansible_collections.oscarv.virt.plugins.module_utils import _image_disk as disks
from ansible_collections.oscarv.virt.plugins.module_utils._image_sandbox import BuildError

MIB = 2**20
KNOWN = """\
http://a.example/debian/ bookworm main Debian
http://a.example/debian/ bookworm contrib Debian
http://a.example/debian/ bookworm-updates main Debian
http://a.example/debian-security/ bookworm-security main Debian
"""
DUMP = """\
APT::Architecture "amd64";
Acquire::Check-Valid-Until "false";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::http::Proxy-Auto-Detect "/usr/local/bin/find-proxy";
Acquire::https::CaInfo "/usr/local/share/ca.crt";
Acquire::https "";
Acquire::Languages:: "none";
Acquire::IndexTargets::deb::Packages::MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
"""


class TestArchives:
    def test_are_the_builders_own(self) -> None:
        found = apt.find_archives(KNOWN, "bookworm")
        assert found == ("http://a.example/debian/", "http://a.example/debian-security/")

    def test_are_not_somebody_elses(self) -> None:
        other = "http://vendor.example/apt bookworm main Vendor\nhttp://x.example/y bookworm stable Vendor\n"
        assert apt.find_archives(other, "bookworm") is None
        assert apt.find_archives(other + KNOWN, "bookworm") == apt.find_archives(KNOWN, "bookworm")

    def test_are_known_before_the_lists_were_fetched(self) -> None:
        lines = KNOWN.replace(" Debian", " $(ORIGIN)").splitlines()
        assert apt.find_archives("\n".join(lines), "bookworm") == apt.find_archives(KNOWN, "bookworm")

    def test_of_another_release_are_none(self) -> None:
        assert apt.find_archives(KNOWN, "trixie") is None
        assert apt.find_archives("", "bookworm") is None

    def test_lines_have_updates_and_security(self) -> None:
        key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
        assert apt.source_lines("trixie", ["main", "contrib"], "http://a/d", "http://a/s") == [
            f"deb {key} http://a/d trixie main contrib",
            f"deb {key} http://a/d trixie-updates main contrib",
            f"deb {key} http://a/s trixie-security main contrib",
        ]
        assert len(apt.source_lines("trixie", ["main"], "http://a/d", None)) == 2


class TestTransport:
    def test_is_how_archives_are_reached_and_nothing_else(self) -> None:
        assert apt.transport_options(DUMP) == [
            'Acquire::Check-Valid-Until "false";',
            'Acquire::http::Proxy "http://proxy.example:3128";',
            'Acquire::https::CaInfo "/usr/local/share/ca.crt";',
        ]

    def test_reads_passwords_where_they_lie_outside_and_a_copy_inside(self) -> None:
        options = apt.transport_options(DUMP)
        outer = apt.outer_configuration(options).splitlines()
        inner = apt.inner_configuration(options, "/run/x", own_sources=True).splitlines()
        assert 'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";' in outer and options[2] in outer
        assert 'Dir::Etc::netrcparts "/run/x/auth";' in inner and options[2] not in inner
        assert 'Acquire::https::CaInfo "/run/x/ca.crt";' in inner and options[1] in inner

    def test_leaves_the_images_own_sources_alone_where_they_are_used(self) -> None:
        line = 'Dir::Etc::sourcelist "/run/x/sources.list";'
        assert line in apt.inner_configuration([], "/run/x", own_sources=True)
        assert line not in apt.inner_configuration([], "/run/x", own_sources=False)


class TestDisk:
    def test_has_room_for_its_contents(self) -> None:
        assert disks.size_for(500 * MIB, None) == 960 * MIB  # 128 + 1 + 600 + 192, in steps of 64
        assert disks.size_for(0, None) == 384 * MIB

    def test_is_as_large_as_asked_for_in_whole_mib(self) -> None:
        assert disks.size_for(500 * MIB, 2048 * MIB + 5) == 2048 * MIB

    def test_too_small_is_refused_with_the_number_that_would_do(self) -> None:
        with pytest.raises(BuildError, match="size is 512 MiB, but its contents need 960 MiB: raise `size`"):
            disks.size_for(500 * MIB, 512 * MIB)

    def test_has_names_that_its_recipe_gives_it(self) -> None:
        one, same, other = (disks.Identity.of(recipe * 64) for recipe in "aab")
        assert one == same and not set(one) & set(other)
        assert len(set(one)) == 4 and len(one.esp) == 9
