#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have builds on a HostOS, or have them no longer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_builds
short_description: Have the builds that guests stand on, verified, on a HostOS
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - A build is a finished image, named by the sha256 of its file. The root disk of a guest is an overlay on one.
  - Fetches the builds that are missing, and verifies each by sha256 before it gets its name. A file that lies there already is
    verified once; O(builds[].verified) says that this has been done.
  - Removes builds only when no file in any of the pools stands on them. A file or folder there that cannot be read is an error, and
    nothing is removed.
extends_documentation_fragment:
  - oscarv.virt.attributes
  - oscarv.virt.attributes.actiongroup_virt
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  builds:
    description: The builds. RV(oscarv.virt.assign#module:builds) has them for each HostOS.
    type: list
    elements: dict
    required: true
    suboptions:
      build_id:
        description: The sha256 of the file.
        type: str
        required: true
      path:
        description: Where it lies, C(POOL/builds/BUILD_ID.qcow2).
        type: path
        required: true
      url:
        description: Where it can be fetched, C(http), C(https) or C(file).
        type: str
      size:
        description: Bytes of the file.
        type: int
      verified:
        description: The file at O(builds[].path) was verified before; it is not read again as long as its size is right.
        type: bool
        default: false
      image:
        description: Name of the image, for messages.
        type: str
      kernel:
        description:
          - Files of the build's kernel that guests boot from outside their disk, V(vmlinuz) and V(initrd.img), each with its sha256.
          - They lie beside O(builds[].path) as C(BUILD_ID.vmlinuz) and C(BUILD_ID.initrd.img), are fetched from where O(builds[].url)
            lies, and go with the build.
        type: dict
        default: {}
      pool:
        description: Ignored, so that RV(oscarv.virt.assign#module:builds) can be passed as it is.
        type: str
  state:
    description: V(present) fetches what is missing, V(absent) removes what nothing stands on.
    type: str
    choices: [present, absent]
    default: present
  pools:
    description: Folders of all pools, to look for files that stand on a build. Needed for O(state=absent).
    type: list
    elements: path
    default: []
  leaving:
    description:
      - Folders that a run would have emptied before this task. In check mode what lies in them needs no build; otherwise this
        is ignored.
    type: list
    elements: path
    default: []
  timeout:
    description: Seconds without a byte after which a download is given up.
    type: int
    default: 60
  state_dir:
    description: Where the lock of this HostOS is. The same as for M(oscarv.virt.guest).
    type: path
    default: /var/lib/oscarv-host
seealso:
  - module: oscarv.virt.guest
"""

EXAMPLES = r"""
- name: Have what the guests of this HostOS stand on
  oscarv.virt.host_builds:
    builds: "{{ decided.builds[inventory_hostname] }}"

- name: Remove a build that nothing needs
  oscarv.virt.host_builds:
    builds:
      - build_id: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
        path: /var/lib/oscarv/builds/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae.qcow2
    state: absent
    pools: [/var/lib/oscarv]
"""

RETURN = r"""
verified:
  description: Builds that lie there verified now. In check mode, those that do already and those that would.
  returned: O(state=present)
  type: list
  elements: str
fetched:
  description: Builds that were fetched.
  returned: O(state=present)
  type: list
  elements: str
removed:
  description: Builds that were removed.
  returned: O(state=absent)
  type: list
  elements: str
kept:
  description: Builds that were not removed, with the file that stands on each.
  returned: O(state=absent)
  type: dict
left:
  description: The same without the files.
  returned: O(state=absent)
  type: list
  elements: str
"""

import pathlib
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ..module_utils import _builds as builds
from ..module_utils._driver import DriverError
from ..module_utils._lock import hold
from ..module_utils._paths import KERNEL_FILES, kernel_path

_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_BUILD = {
    "build_id": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
    "url": {"type": "str"},
    "size": {"type": "int"},
    "verified": {"type": "bool", "default": False},
    "image": {"type": "str"},
    "kernel": {"type": "dict", "default": {}},
    "pool": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "builds": {"type": "list", "elements": "dict", "required": True, "options": _BUILD},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "pools": {"type": "list", "elements": "path", "default": []},
            "leaving": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "int", "default": 60},
            "state_dir": {"type": "path", "default": "/var/lib/oscarv-host"},
        },
        required_if=[("state", "absent", ("pools",))],
        supports_check_mode=True,
    )
    params = module.params
    try:
        wanted = [_read(item) for item in params["builds"]]
        if params["state"] == "present":
            result = present(wanted, _downloader(params["timeout"]), module.check_mode)
        else:
            result = absent(wanted, params, module.check_mode)
    except DriverError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'builds'}: {error.strerror or error}")
    module.exit_json(**result)


def _read(item: t.Mapping[str, t.Any]) -> builds.Wanted:
    build_id, path = item["build_id"], pathlib.Path(item["path"])
    if (
        len(build_id) != 64
        or path.name != f"{build_id}.qcow2"
        or path.parent.name != "builds"
        or not path.is_absolute()
    ):
        raise builds.BuildError(
            f"builds: path: found {item['path']!r} for build {build_id!r}; allowed: /POOL/builds/BUILD_ID.qcow2, and a"
            " build_id has 64 hexadecimal digits"
        )
    kernel = item["kernel"]
    wrong = [name for name, found in kernel.items() if name not in KERNEL_FILES or not _SHA256.fullmatch(str(found))]
    if wrong:
        raise builds.BuildError(
            f"builds: kernel of build {build_id}: found {wrong[0]!r}: {kernel[wrong[0]]!r}; allowed:"
            f" {' and '.join(KERNEL_FILES)} with their sha256"
        )
    named = tuple((name, kernel[name]) for name in KERNEL_FILES if name in kernel)
    return builds.Wanted(build_id, path, item["url"], item["size"], item["verified"], item["image"], named)


def _downloader(timeout: int) -> builds.Download:
    def download(url: str) -> t.Iterator[bytes]:
        with open_url(url, timeout=timeout, http_agent="oscarv.virt") as answer:
            while chunk := answer.read(1 << 20):
                yield chunk

    return download


def present(wanted: t.Sequence[builds.Wanted], download: builds.Download, check: bool) -> dict[str, t.Any]:
    """Look at all before fetching any."""
    disks = [build for build in wanted if builds.missing(build)]
    kernels = [(build, name) for build in wanted for name in builds.missing_kernel(build)]
    lacking = [build for build in wanted if build in disks or build in [other for other, _name in kernels]]
    for build in lacking:
        builds.refuse(build)
    for build in () if check else disks:
        builds.fetch(build, download)
    for build, name in () if check else kernels:
        builds.fetch_kernel(build, name, download)
    fetched = {str(build.path) for build in disks} | {kernel_path(str(build.path), name) for build, name in kernels}
    after = [path for build in wanted for path in _files(build)]
    return {
        "changed": bool(lacking),
        "verified": sorted({build.build_id for build in wanted}),
        "fetched": [build.build_id for build in lacking],
        "diff": _changed(before=[path for path in after if path not in fetched], after=after),
    }


def absent(wanted: t.Sequence[builds.Wanted], params: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
    """Under the HostOS's lock: no guest is being made on a build while it is looked whether one is."""
    if check:
        return _absent(wanted, params["pools"], check=True, leaving=params["leaving"])
    with hold(params["state_dir"], "host_builds"):
        return _absent(wanted, params["pools"], check=False)


def _absent(
    wanted: t.Sequence[builds.Wanted], pools: t.Iterable[str], *, check: bool, leaving: t.Iterable[str] = ()
) -> dict[str, t.Any]:
    there = [build for build in wanted if build.path.is_file()]
    needed = builds.needed_by(map(pathlib.Path, pools), map(pathlib.Path, leaving)) if there else {}
    kept = {build.build_id: needed[build.build_id] for build in there if build.build_id in needed}
    gone = [build for build in there if build.build_id not in kept]
    stays = [build for build in there if build not in gone]
    before, after = ([path for build in some for path in _lying(build)] for some in (there, stays))
    for build in () if check else gone:
        builds.remove(build.path)
    return {
        "changed": bool(gone),
        "removed": [build.build_id for build in gone],
        "kept": kept,
        "left": sorted(kept),
        "diff": _changed(before=before, after=after),
    }


def _files(build: builds.Wanted) -> list[str]:
    """Paths of everything that is wanted of a build."""
    return [str(build.path), *(kernel_path(str(build.path), name) for name, _sum in build.kernel)]


def _lying(build: builds.Wanted) -> list[str]:
    """Paths of everything that lies there of a build that does."""
    beside = (pathlib.Path(kernel_path(str(build.path), name)) for name in KERNEL_FILES)
    return [str(build.path), *(str(path) for path in beside if path.is_file())]


def _changed(*, before: t.Iterable[str], after: t.Iterable[str]) -> dict[str, str]:
    texts = ["".join(f"{path}\n" for path in paths) for paths in (before, after)]
    return {"before_header": "builds", "after_header": "builds", "before": texts[0], "after": texts[1]}


if __name__ == "__main__":
    main()
