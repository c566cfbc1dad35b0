# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible roles inside an image that is being built: an ansible-playbook of its own, by community.general.chroot.

It runs within the build's namespaces, so it ends with the build. It sees the roles that the controller packed
(`plugin_utils/_recipe.py`), which are the ones that the recipe_id speaks of, and no configuration of anybody.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import tarfile
import typing as t

from ._image_sandbox import BuildError
from ._image_tree import INSIDE, Tree, command

_PLAYBOOK = "roles.yml"
_ESCAPED = re.compile(r"[^ !#-\[\]-~]")
#: Roles that must do something else in an image than on a machine can ask this variable.
_FLAG = "oscarv_image_build"


def unpack(archive: str, target: pathlib.Path) -> None:
    """Roles (roles/NAME) and collections (collections/ansible_collections/...) as the controller packed them."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.startswith("/") or ".." in member.name.split("/"):
                raise BuildError(f"the archive of roles {archive} holds {member.name!r}: not made by this collection")
            tar.extract(member, target)


def apply(
    tree: Tree,
    image: str,
    roles: t.Sequence[str],
    variables: t.Mapping[str, t.Any],
    ansible_playbook: str,
    collections_path: t.Sequence[str],
) -> None:
    """Run `roles` in the mounted tree, in this order. BuildError if one fails."""
    work = tree.work / "ansible"
    tree.write_wrapper()
    (work / "ansible.cfg").write_text(
        _configuration(work, [str(work / "collections"), *collections_path]), encoding="utf-8"
    )
    inventory = {
        "all": {
            "hosts": {
                image: {
                    "ansible_connection": "community.general.chroot",
                    "ansible_host": str(tree.root),
                    "ansible_chroot_exe": str(tree.wrapper),
                    "ansible_python_interpreter": "/usr/bin/python3",
                    "ansible_remote_tmp": f"{INSIDE}/ansible",
                }
            }
        }
    }
    (work / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")
    (work / _PLAYBOOK).write_text(playbook(roles, variables), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(ANSIBLE_CONFIG=str(work / "ansible.cfg"), LC_ALL="C.UTF-8", HOME=str(work), TMPDIR=str(work))
    # Set where this module itself was started: they would lead the other Ansible to this one's files.
    for name in ("PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    command(ansible_playbook, "-i", work / "inventory.json", work / _PLAYBOOK, env=environment)


def playbook(roles: t.Sequence[str], variables: t.Mapping[str, t.Any]) -> str:
    """A play with these roles, as YAML. Its texts are literal: a definition holds no templates."""
    return _literal([{"hosts": "all", "gather_facts": True, "vars": {**variables, _FLAG: True}, "roles": list(roles)}])


def _literal(value: t.Any) -> str:
    """YAML of plain data, every text with Ansible's tag for what is no template. (JSON has no tags.)"""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, str) and "{" in value:
        return f"!unsafe {_quoted(value)}"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    """All but plain ASCII escaped: JSON writes what is beyond 16 bits in a way that is not YAML's."""
    return '"' + _ESCAPED.sub(lambda found: f"\\U{ord(found[0]):08x}", text) + '"'


def _configuration(work: pathlib.Path, collections: t.Sequence[str]) -> str:
    return f"""\
[defaults]
home = {work}/home
local_tmp = {work}/tmp
roles_path = {work}/roles
collections_path = {":".join(collections)}
nocolor = true
retry_files_enabled = false
localhost_warning = false
[connection]
pipelining = true
"""
