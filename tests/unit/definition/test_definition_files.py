# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several files: parts, other clusters, and files that are no YAML."""

from __future__ import annotations

import os
import pathlib

import pytest
from ansible_collections.oscarv.virt.plugins.plugin_utils._definition import DefinitionErrors, load
from definer import GOOD, Definer

PART = "plugin: oscarv.virt.cluster\nimages:\n  extra: {builder: debian, release: trixie}\n"
USER = """\
plugin: oscarv.virt.cluster
cluster: guestsonly
uses: c.oscarv.yml
networks:
  lan: {bridge: br0, ranges: 10.9.0.0/24}
partitions:
  workers2:
    {image: base, members: "g[1:3]", on: kvmhosts, vcpus: 1, memory: 1 GiB, disk: 1 GiB, networks: [lan],
     spread: rack, pool: san}
rules:
  - {pin: g1, to: node02}
images:
  base: {builder: debian, release: bookworm}
"""


def include(*parts: str) -> str:
    return GOOD.replace("networks:\n", f"include: [{', '.join(parts)}]\nnetworks:\n", 1)


def test_parts_are_one_definition(define: Definer) -> None:
    define.write(PART, "p.oscarv-part.yml")
    cluster = define.load(include("p.oscarv-part.yml").replace("image: base", "image: extra"))
    assert list(cluster.images) == ["base", "extra"]
    assert [pathlib.Path(name).name for name in cluster.files] == ["c.oscarv.yml", "p.oscarv-part.yml"]


def test_a_name_in_two_files(define: Definer) -> None:
    define.write(PART.replace("extra", "base"), "p.oscarv-part.yml")
    (error,) = define.errors(include("p.oscarv-part.yml"))
    assert error.where.file.endswith("p.oscarv-part.yml")
    assert (error.where.line, error.where.path) == (3, "images.base")
    assert "'base' is defined twice, first in" in error.message
    assert "c.oscarv.yml:34" in error.message


def test_errors_of_all_files_come_together_and_in_order(define: Definer) -> None:
    define.write(PART + "cluster: x\nmemry: 1\n", "p.oscarv-part.yml")
    errors = define.errors(
        include("p.oscarv-part.yml", "gone.oscarv-part.yml", "q.yml").replace("vcpus: 2", "vcpus: x")
    )
    said = [(pathlib.Path(error.where.file).name, error.where.line, error.where.path) for error in errors]
    assert said == [
        ("c.oscarv.yml", 3, "include"),
        ("c.oscarv.yml", 21, "partitions.workers.vcpus"),
        ("gone.oscarv-part.yml", 1, "(file)"),
        ("p.oscarv-part.yml", 4, "cluster"),
        ("p.oscarv-part.yml", 5, "memry"),
    ]
    assert "a part is named *.oscarv-part.yml" in errors[0].message


def test_a_part_twice(define: Definer) -> None:
    define.write(PART, "p.oscarv-part.yml")
    (error,) = define.errors(include("p.oscarv-part.yml", "./p.oscarv-part.yml"))
    assert "is included twice" in error.message


def test_hosts_of_another_cluster(define: Definer) -> None:
    define.write(GOOD)
    cluster = load(define.write(USER, "user.oscarv.yml"))
    assert list(cluster.guests) == ["g1", "g2", "g3"]
    assert cluster.hosts["node03"].external
    assert cluster.hosts["node03"].enclosures == (("rack", "rack2"), ("room", "room1"))
    assert list(cluster.host_partitions) == ["kvmhosts", "xenhosts"]
    assert cluster.guests["g1"].disks[0].shared, "the pools come along"
    assert "workers" not in cluster.guest_partitions
    assert list(cluster.networks) == ["lan"]
    assert any(name.endswith("c.oscarv.yml") for name in cluster.files)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cluster: guestsonly", "cluster: demo", "is called 'demo' too"),
        ("ranges: 10.9.0.0/24", "ranges: 10.0.4.0/25", "overlaps network 'compute' of cluster 'demo'"),
        ("uses: c.oscarv.yml", "uses: [c.oscarv.yml, ./c.oscarv.yml]", "nor another one twice"),
        ("uses: c.oscarv.yml", "uses: user.oscarv.yml", "a cluster does not use itself"),
        ("uses: c.oscarv.yml", "uses: gone.oscarv.yml", "cannot be read: No such file or directory"),
        ("uses: c.oscarv.yml", "uses: c.yml", "expected the root file of a cluster"),
        ("  workers2:", "  kvmhosts: {hypervisor: kvm, members: n1}\n  workers2:", "is a partition of a cluster"),
        ("  workers2:", "  mine: {hypervisor: kvm, members: node01}\n  workers2:", "is a HostOS of a cluster"),
        ("networks:\n", "pools: {san: {type: dir}}\nnetworks:\n", "is another pool in a cluster"),
        ("g[1:3]", "g[1:2],node01", "is the name of a HostOS"),
    ],
)
def test_what_goes_wrong_with_another_cluster(define: Definer, old: str, new: str, words: str) -> None:
    define.write(GOOD)
    with pytest.raises(DefinitionErrors) as caught:
        load(define.write(USER.replace(old, new, 1), "user.oscarv.yml"))
    assert words in str(caught.value)


def test_errors_of_the_other_cluster_name_its_file(define: Definer) -> None:
    define.write(GOOD.replace("[node03, node04]", "[node03, node99]"))
    with pytest.raises(DefinitionErrors) as caught:
        load(define.write(USER, "user.oscarv.yml"))
    (error,) = [error for error in caught.value.errors if "node99" in str(error)]
    assert error.where.file.endswith("c.oscarv.yml")
    assert error.where.line == 12


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected a mapping"),
        (b"- a\n", "found 'list'; expected a mapping"),
        (b"a: [\n", ":2: (file): is not YAML"),
        (b"a: b: c\n", ":1: (file): is not YAML: mapping values are not allowed"),
        (b"a: *gone\n", "is not YAML: found undefined alias"),
        (b"--- {}\n--- {}\n", "is not YAML: a second document"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"a: \x00b\n", "is not YAML"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n6162\n", "the whole file is vaulted"),
        (b"a: &a [*a]\n", "unknown key 'a'"),
        (b"plugin: &a {x: *a}\n", "found 'mapping'"),
        (b"? [a]\n: b\n", "a key must be a text"),
        (b"<<: 3\n", "only mappings"),
        (b"a: &a\n  <<: *a\n", "unknown key 'a'"),
        (b"partitions: &a\n  <<: *a\n", "only mappings that do not contain themselves"),
        (b"[" * 200_000 + b"]" * 200_000, "nested more than 60 deep"),
        (b"networks: !!python/object:os.system {}\n", "tag tag:yaml.org,2002:python/object:os.system"),
    ],
)
def test_files_that_are_no_definition(tmp_path: pathlib.Path, content: bytes, words: str) -> None:
    path = tmp_path / "c.oscarv.yml"
    path.write_bytes(content)
    with pytest.raises(DefinitionErrors) as caught:
        load(str(path))
    assert words in str(caught.value)


def test_a_bomb_of_aliases(define: Definer) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    bomb = "".join(f"      {line}\n" for line in lines)
    errors = define.errors(GOOD.replace("    vcpus: 2\n", f"    vcpus: 2\n    cloud_init:\n{bomb}"))
    assert "holds more than 20000 values when its aliases are written out" in str(errors[0])
    loop = GOOD.replace("    vcpus: 2\n", "    vcpus: 2\n    cloud_init: &c {a: [*c]}\n")
    assert "contains itself" in str(define.errors(loop)[0])


def test_a_file_that_may_not_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DefinitionErrors, match="cannot be read: Is a directory"):
        load(str(tmp_path / "d.oscarv.yml") if not os.mkdir(tmp_path / "d.oscarv.yml") else "")
    with pytest.raises(DefinitionErrors, match=r"a definition is named \*\.oscarv\.yml"):
        load(str(tmp_path / "d.yml"))


def test_secrets_are_not_repeated_in_messages(define: Definer) -> None:
    text = GOOD.replace("cluster: demo\n", "cluster: demo\nledger: postgresql://me:hunter2@db/x\n")
    text = text.replace("    vcpus: 2\n", "    vcpus: 2\n    cloud_init: {password: hunter2}\n")
    errors = define.errors(text)
    assert [error.where.path for error in errors] == ["ledger", "partitions.workers.cloud_init.password"]
    assert "hunter2" not in "".join(map(str, errors))
