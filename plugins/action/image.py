# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action `image`; documented in plugins/modules/image.py.

Recipes and roles are the controller's, the store is the builder's: makes canonical recipes here, and has the module
`image_build` look there; only if something is missing are roles packed and sent.
"""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import typing as t

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.collection_loader._collection_finder import _get_collection_role_path

from ..module_utils._image_sandbox import die_with_parent
from ..plugin_utils._context import definition_path, plain
from ..plugin_utils._definition import DefinitionErrors, load
from ..plugin_utils._model import Cluster, Image
from ..plugin_utils._recipe import RecipeError, canonical, recipe_id
from ..plugin_utils._role_files import Role, RoleError, collect, pack

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "definition": {"type": "path"},
    "images": {"type": "list", "elements": "str", "default": []},
    "store": {"type": "path", "default": "/var/lib/oscarv-store"},
    "store_url": {"type": "str"},
    "ansible_playbook": {"type": "str"},
    "collections_path": {"type": "list", "elements": "path"},
    "mirror": {"type": "str"},
    "mirror_security": {"type": "str"},
}
_PASSED_ON = ("store", "store_url", "mirror", "mirror_security")


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _spec, validated = self.validate_argument_spec(argument_spec=_OPTIONS)
        args = plain(validated)
        path = definition_path(self, variables)
        try:
            cluster = load(path)
            wishes = [self._wish(image, path, variables) for image in _selected(cluster, args["images"])]
        except DefinitionErrors as errors:
            raise AnsibleActionFail(f"the definition {path} cannot be used:\n{errors}") from errors
        except (RecipeError, RoleError) as error:
            raise AnsibleActionFail(str(error)) from error
        options = {key: args[key] for key in _PASSED_ON if args[key]}
        options["images"] = [wish for wish, _roles in wishes]

        # One call that only looks; on most days it is the only one.
        looked = self._call(options, variables, check=True)
        if looked.get("failed") or self._task.check_mode or not looked["built"]:
            result.update(looked)
            return result
        roles = [role for wish, needed in wishes if wish["image"] in looked["built"] for role in needed]
        result.update(self._build(options, roles, args, variables))
        return result

    def _wish(
        self, image: Image, definition: str, variables: t.Mapping[str, t.Any]
    ) -> tuple[dict[str, t.Any], list[Role]]:
        """One element of the module's `images`, and the roles that it needs."""
        here = os.path.dirname(definition)
        places = [here, os.path.dirname(here), self._loader.get_basedir(), str(variables.get("playbook_dir") or "")]
        folders = [os.path.join(place, "roles") for place in places if place]
        roles = collect(image.options.get("roles", ()), lambda name: find_role(name, folders))
        recipe = plain(canonical(image, roles))
        wish = {"image": image.name, "recipe_id": recipe_id(recipe), "recipe": recipe}
        if "url" in image.options:
            wish["url"] = str(image.options["url"])
        return wish, list(roles.values())

    def _build(
        self, options: dict[str, t.Any], roles: list[Role], args: dict[str, t.Any], variables: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        local = self._connection.transport in ("local", "ansible.builtin.local", "ansible.legacy.local")
        if multiprocessing.parent_process() is not None:
            # This worker waits for minutes. When ansible-playbook is killed it must end, so that the build does.
            die_with_parent(os.getppid())
        if local:
            options["watched"] = [os.getpid(), os.getppid()]
            options["ansible_playbook"] = _own_ansible_playbook()
            options["collections_path"] = list(AnsibleCollectionConfig.collection_paths)
        options.update({key: args[key] for key in ("ansible_playbook", "collections_path") if args[key]})
        sent = None
        try:
            if roles:
                sent = self._make_tmp_path()
                options["roles_archive"] = self._send(roles, self._connection._shell.join_path(sent, "roles.tar.gz"))
            return self._call(options, variables, check=False)
        finally:
            if sent:
                self._remove_tmp_path(sent)

    def _send(self, roles: list[Role], target: str) -> str:
        with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as folder:
            archive = os.path.join(folder, "roles.tar.gz")
            pack(roles, archive)
            self._transfer_file(archive, target)
        self._fixup_perms2([os.path.dirname(target), target])
        return target

    def _call(self, options: dict[str, t.Any], variables: dict[str, t.Any], *, check: bool) -> dict[str, t.Any]:
        before = self._task.check_mode
        self._task.check_mode = check
        try:
            answer: dict[str, t.Any] = self._execute_module(
                module_name="oscarv.virt.image_build", module_args=options, task_vars=variables
            )
        finally:
            self._task.check_mode = before
        answer.pop("invocation", None)
        return answer


def _selected(cluster: Cluster, names: t.Sequence[str]) -> list[Image]:
    unknown = [name for name in names if name not in cluster.images]
    if unknown:
        raise RecipeError(
            f"{cluster.definition} has no image {', '.join(unknown)}; its images: {', '.join(cluster.images) or 'none'}"
        )
    return [image for name, image in cluster.images.items() if not names or name in names]


def find_role(name: str, folders: t.Iterable[str]) -> tuple[pathlib.Path, str | None] | None:
    """A role of a collection by its full name; else a folder of that name in `folders` or in Ansible's roles_path."""
    if name.count(".") >= 2:
        found = _get_collection_role_path(name)
        if found:
            return pathlib.Path(os.fsdecode(found[1])), str(found[2])
    for folder in (*folders, *constants.DEFAULT_ROLES_PATH):
        path = pathlib.Path(folder).expanduser() / name
        if path.is_dir():
            return path.resolve(), None
    return None


def _own_ansible_playbook() -> str:
    """The ansible-playbook of the Ansible that runs this, so that roles are applied by the version that people test."""
    beside = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    return beside if os.access(beside, os.X_OK) else shutil.which("ansible-playbook") or "ansible-playbook"
