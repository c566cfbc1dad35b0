# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds that are killed at any point, and builds that meet: never half an image, never a process or mount left."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import time
import typing as t

import pytest
from conftest import Builder, holders

SMALL = {"builder": "debian", "release": "bookworm", "roles": ["site"]}
TASKS: list[dict[str, t.Any]] = [
    {"name": "Be seen", "ansible.builtin.copy": {"dest": "/etc/seen", "content": "yes\n", "mode": "0644"}}
]


@pytest.fixture
def small(builder: Builder) -> Builder:
    builder.role("site", TASKS)
    builder.define(small=SMALL)
    return builder


def children(pid: int) -> list[int]:
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def victim(run: subprocess.Popen[str], builder: Builder, who: str) -> int:
    """ansible-playbook itself, its worker, or the module: the oldest process that has the lock."""
    if who == "controller":
        return run.pid
    if who == "worker":
        (worker,) = children(run.pid)
        return worker
    return min(holders(str(builder.store / ".lock.")))


#: What the log says when this point is reached, and who is killed then. Nobody is killed at each point by each: the
#: points differ in what runs, the victims in who must notice.
POINTS = [
    ("+ mmdebstrap", "controller"),
    ("+ mmdebstrap", "worker"),
    ("+ mmdebstrap", "module"),
    pytest.param("=== roles", "controller", marks=pytest.mark.long),
    pytest.param("=== kernel", "worker", marks=pytest.mark.long),
    pytest.param("=== disk", "module", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("point", "who"), POINTS)
def test_a_killed_build_leaves_nothing(small: Builder, point: str, who: str) -> None:
    run = small.start()
    try:
        small.wait_for_log(point)
        time.sleep(1.5)  # well into it
        assert small.traces()["processes"], "the build runs"
        os.kill(victim(run, small, who), signal.SIGKILL)
        small.wait_for_silence()
        text, _none = run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode != 0, text
    assert not small.images()
    left = small.temporary()
    assert len(left) <= 1
    if left:  # the module itself was killed: the next build clears its folder away, whatever that one builds
        small.define(other={**SMALL, "packages": ["less"]})
        small.forget_logs()
        again = small.start()
        try:
            small.wait_for_log("+ mmdebstrap")
            assert left[0] not in small.temporary()
        finally:
            again.kill()
            again.communicate()
        small.wait_for_silence()


@pytest.mark.long  # a whole build more: `make test` sees that a killed one leaves nothing
def test_a_build_that_was_killed_is_built_by_the_next_run(small: Builder) -> None:
    """And two runs that come at the same time make one image: the second waits, and finds it."""
    first = small.start()
    try:
        small.wait_for_log("+ mmdebstrap")
    finally:
        first.kill()
        first.communicate()
    small.wait_for_silence()
    small.forget_logs()
    runs = [small.start() for _run in range(2)]
    try:
        said = [run.communicate(timeout=900)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], said
    (image,) = small.images()
    assert not small.temporary()
    made = [text for text in said if "Make the images that are missing] ***" in text]
    changed = [text.split("Make the images that are missing]")[1].splitlines()[1].split(":")[0] for text in made]
    assert changed.count("changed") == 1, said
    assert small.manifest(image)["image"] == "small"


@pytest.mark.long  # a build like the one that is killed in its roles
def test_a_role_that_fails_is_shown_and_leaves_nothing(builder: Builder) -> None:
    builder.role("site", [{"name": "Fail", "ansible.builtin.fail": {"msg": "no sugar today"}}])
    builder.define(small=SMALL)
    run = builder.play()
    assert run.code != 0 and "no sugar today" in run.text and "image small: " in run.text, run.text
    assert "its log is" in run.text and "no sugar today" in builder.log()
    assert not builder.images() and not builder.temporary()


def test_what_cannot_be_built_is_refused_before_anything_happens(builder: Builder) -> None:
    builder.define(small={**SMALL, "roles": ["absent"]})
    run = builder.play()
    assert run.code != 0 and "role absent is not found: put it into a folder roles/" in run.text, run.text
    builder.define(small={**SMALL, "roles": [], "release": "sarge"})
    run = builder.play()
    assert run.code != 0 and "release sarge is not one that the builder knows" in run.text, run.text
    builder.define(small={**SMALL, "roles": []})
    run = builder.play("-e", "oscarv_image=smal")
    assert run.code != 0 and "has no image smal; its images: small" in run.text, run.text
    assert builder.entries() == []


def test_a_machine_without_room_is_refused(builder: Builder) -> None:
    builder.define(small={"builder": "debian", "release": "bookworm"})
    builder.store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(builder.store)], check=True)
    try:
        run = builder.play()
        assert run.code != 0 and "MiB left, a build needs 4096 MiB: make room" in run.text, run.text
        assert builder.entries() == []
    finally:
        subprocess.run(["umount", str(builder.store)], check=True)
    shutil.rmtree(builder.store)
