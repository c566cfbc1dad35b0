#!/usr/bin/python
# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the images of canonical recipes in a builder's store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Have the images of recipes in the store of a builder
version_added: 1.0.0
author: the oscarv.virt authors (@oscarv)
description:
  - Makes the images whose recipes have no finished build in the store. M(oscarv.virt.image) calls it with the recipes of a
    definition; there is rarely a reason to call it by hand.
  - A build is one process tree in namespaces of its own. It ends with the module, and the module with the Ansible that
    started it; a build that was killed leaves nothing but a temporary folder, which the next build removes.
  - Two builds of the same recipe at the same time are one; the second waits and finds the result.
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
  images:
    description: The images.
    type: list
    elements: dict
    required: true
    suboptions:
      image:
        description: Its name.
        type: str
        required: true
      recipe_id:
        description: The sha256 of the canonical recipe.
        type: str
        required: true
      recipe:
        description: The canonical recipe, as M(oscarv.virt.image) makes it.
        type: dict
        required: true
      url:
        description: Where an image that is imported can be fetched, C(https), C(http) or C(file).
        type: str
  store:
    description: The folder with the finished images.
    type: path
    default: /var/lib/oscarv-store
  store_url:
    description: Where others can fetch what is in the store; stands in RV(builds).
    type: str
  roles_archive:
    description: Archive on the builder with the roles of all these recipes.
    type: path
  ansible_playbook:
    description: The C(ansible-playbook) on the builder that applies roles; it needs the collection community.general.
    type: str
    default: ansible-playbook
  collections_path:
    description: Folders on the builder with collections that roles may use.
    type: list
    elements: path
    default: []
  mirror:
    description: Debian archive to fetch from, in place of the builder's own. The image does not know of it.
    type: str
  mirror_security:
    description: The same for Debian's security archive.
    type: str
  watched:
    description: Processes with whose end the module ends too, where they are its ancestors.
    type: list
    elements: int
    default: []
"""

EXAMPLES = r"""
- name: Take a cloud image
  oscarv.virt.image_build:
    images:
      - image: rocky9
        recipe_id: 5f3a0c9b6e8d7f21a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1
        recipe:
          format: 1
          builder: import
          sha256: 8c4b1e2f3a5d6c7b8e9f0a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc
        url: file:///srv/images/Rocky-9.qcow2
"""

RETURN = r"""
builds:
  description: What is in the store, by image. Images that could not be made are missing.
  returned: always
  type: dict
  contains:
    build_id:
      description: The sha256 of the disk.
      type: str
    image:
      description: Name of the image.
      type: str
    recipe_id:
      description: The recipe that was asked for.
      type: str
    size:
      description: Bytes of the file.
      type: int
    virtual_size:
      description: Bytes of the disk that a guest sees.
      type: int
    created:
      description: When it was finished (UTC, ISO 8601).
      type: str
    path:
      description: The disk on the builder.
      type: str
    url:
      description: Where HostOSes can fetch it.
      type: str
    manifest:
      description: What else is known of it, such as kernel, command line and source_date_epoch.
      type: dict
built:
  description: Names of the images that were made, or in check mode would be.
  returned: always
  type: list
  elements: str
failed_images:
  description: Names of images that could not be made, and why.
  returned: always
  type: dict
missing_packages:
  description: Debian packages that the builder lacks in order to make the images in RV(built).
  returned: in check mode
  type: list
  elements: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._image_make import Wanted, Ways, make, missing_packages, refuse
from ..module_utils._image_sandbox import Abandoned, BuildError, Watch
from ..module_utils._image_store import Build, Store

_IMAGE: dict[str, t.Any] = {
    "image": {"type": "str", "required": True},
    "recipe_id": {"type": "str", "required": True},
    "recipe": {"type": "dict", "required": True},
    "url": {"type": "str"},
}
_OPTIONS: dict[str, t.Any] = {
    "images": {"type": "list", "elements": "dict", "required": True, "options": _IMAGE},
    "store": {"type": "path", "default": "/var/lib/oscarv-store"},
    "store_url": {"type": "str"},
    "roles_archive": {"type": "path"},
    "ansible_playbook": {"type": "str", "default": "ansible-playbook"},
    "collections_path": {"type": "list", "elements": "path", "default": []},
    "mirror": {"type": "str"},
    "mirror_security": {"type": "str"},
    "watched": {"type": "list", "elements": "int", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    result = reconcile(module.params, check=module.check_mode)
    if result["failed_images"]:
        said = "\n".join(f"image {name}: {why}" for name, why in result["failed_images"].items())
        module.fail_json(msg=said, **result)
    module.exit_json(**result)


def reconcile(params: t.Mapping[str, t.Any], *, check: bool) -> dict[str, t.Any]:
    """The module's result. One image that cannot be made does not stop the others."""
    store = Store(params["store"])
    wanted = [Wanted(**image) for image in params["images"]]
    there = {build_id: build for build in store.builds() for build_id in build.recipe_ids}
    found = {one.image: there[one.recipe_id] for one in wanted if one.recipe_id in there}
    to_make = [one for one in wanted if one.image not in found]
    result: dict[str, t.Any] = {"failed_images": {}, "built": [one.image for one in to_make]}
    if check:
        result["missing_packages"] = missing_packages(to_make)
    elif to_make:
        result["built"] = _make_all(to_make, store, params, found, result["failed_images"])
    result["changed"] = bool(result["built"])
    result["builds"] = {one.image: _plain(found[one.image], one, params) for one in wanted if one.image in found}
    result["diff"] = _diff(wanted, found, result["built"])
    return result


def _make_all(
    to_make: t.Sequence[Wanted],
    store: Store,
    params: t.Mapping[str, t.Any],
    found: dict[str, Build],
    failed: dict[str, str],
) -> list[str]:
    """Make them one after the other (each uses all processors); names of those that were made now."""
    ways = Ways(
        roles_archive=params["roles_archive"],
        ansible_playbook=params["ansible_playbook"],
        collections_path=tuple(params["collections_path"]),
        mirror=params["mirror"],
        mirror_security=params["mirror_security"],
    )
    try:
        refuse(to_make, store, ways)
    except BuildError as error:
        failed.update({one.image: str(error) for one in to_make})
        return []
    built = []
    watch = Watch(params["watched"])
    for one in to_make:
        try:
            found[one.image], made = make(one, store, ways, watch)
            built += [one.image] if made else []
        except BuildError as error:
            failed[one.image] = str(error)
        except Abandoned as error:
            failed[one.image] = f"given up: {error}"
            break
    watch.close()
    return built


def _plain(build: Build, one: Wanted, params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    base = (params["store_url"] or "").rstrip("/")
    return {
        "build_id": build.build_id,
        "image": one.image,
        "recipe_id": one.recipe_id,
        "size": build.size,
        "virtual_size": build.virtual_size,
        "created": build.created,
        "path": build.path,
        "url": f"{base}/{build.build_id}/disk.qcow2" if base else None,
        "manifest": dict(build.manifest),
    }


def _diff(wanted: t.Sequence[Wanted], found: t.Mapping[str, Build], built: t.Sequence[str]) -> dict[str, str]:
    """A line per image: what its recipe had before and has now."""
    before, after = [], []
    for one in wanted:
        build = found.get(one.image)
        name = build.build_id if build else f"to be made ({one.recipe_id[:12]})"
        before.append(f"{one.image}: {'no build' if one.image in built or not build else name}\n")
        after.append(f"{one.image}: {name}\n" if one.image in built or build else before[-1])
    return {"before_header": "images", "after_header": "images", "before": "".join(before), "after": "".join(after)}


if __name__ == "__main__":
    main()
