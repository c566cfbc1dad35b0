# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The canonical recipe of an image and its name, the recipe_id.

Two recipes with the same recipe_id ask for the same image. What does not change the image is not in it: the name of the
image, the order of its packages, where an imported image lies. What changes without anybody saying so is not in it
either: the same recipe gives newer packages next week. Raise FORMAT when the builder itself makes something else.
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ._model import Image
from ._role_files import Role, digest

FORMAT = 2
#: The same for images that are imported, of which nothing is made here.
IMPORT_FORMAT = 1
#: The releases that the builder knows.
RELEASES = ("bookworm", "trixie")


class RecipeError(ValueError):
    """A recipe that cannot be built; the message names the image."""


def canonical(image: Image, roles: t.Mapping[str, Role]) -> dict[str, t.Any]:
    """Plain data for the module image_build. `roles`: the recipe's and all that they need, by name."""
    options = dict(image.options)
    options.pop("boot", None)  # says how guests start from the image, not what is in it
    if image.builder == "import":
        options.pop("url")
        recipe = {"format": IMPORT_FORMAT, "builder": "import", "sha256": options.pop("sha256")}
    elif image.builder == "debian":
        recipe = {
            "format": FORMAT,
            "builder": "debian",
            "architecture": options.pop("architecture", "amd64"),
            "components": list(options.pop("components", None) or ("main",)),
            "mirror": options.pop("mirror", None),
            "packages": sorted(set(options.pop("packages", ()))),
            "release": options.pop("release"),
            "role_contents": {name: digest(role) for name, role in sorted(roles.items())},
            "roles": list(options.pop("roles", ())),
            "size": options.pop("size", None),
            "vars": options.pop("vars", None) or {},
        }
        compression = options.pop("compression", None) or "zstd"
        if compression != "zstd":  # the default is not in it: recipes from before it could be chosen keep their name
            recipe["compression"] = compression
        if recipe["release"] not in RELEASES:
            raise RecipeError(
                f"{image.where or f'image {image.name}'}: release {recipe['release']} is not one that the builder"
                f" knows: {', '.join(RELEASES)}"
            )
    else:
        raise RecipeError(f"{image.where or f'image {image.name}'}: builder {image.builder}: not yet")
    if options:
        raise RecipeError(f"{image.where or f'image {image.name}'}: not yet: {', '.join(sorted(options))}")
    return recipe


def recipe_id(recipe: t.Mapping[str, t.Any]) -> str:
    """sha256 of the canonical recipe."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
