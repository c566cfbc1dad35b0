# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook that runs within an image: what its roles are told."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from ansible_collections.oscarv.virt.plugins.module_utils import _image_roles

TOLD = {
    "template": "{{ 6 * 7 }} {% if true %}x{% endif %} {# gone #}",
    "odd": "quotes \" and ' and \\ and\nlines,\ttabs, \x7f\x85\u2028, \u00e9 and \U0001f600",
    "nested": {"list": [1, 2.5, True, None, "true", "{{ deep }}", "!tag", "*alias"], "{{ key }}": "~"},
    "empty": {"list": [], "mapping": {}, "text": ""},
}


def test_a_role_is_told_the_recipes_variables_as_they_stand(tmp_path: pathlib.Path) -> None:
    tasks = tmp_path / "roles/word/tasks"
    tasks.mkdir(parents=True)
    copy = {"content": "{{ told | to_json }}", "dest": str(tmp_path / "told.json")}
    (tasks / "main.yml").write_text(json.dumps([{"name": "Tell", "ansible.builtin.copy": copy}]))
    play = tmp_path / "play.yml"
    play.write_text(_image_roles.playbook(["word"], {"told": TOLD}))
    local = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    subprocess.run(["ansible-playbook", *local, str(play)], check=True, env={**os.environ, "HOME": str(tmp_path)})
    assert json.loads((tmp_path / "told.json").read_text()) == TOLD
