# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx settings of the docsite; `make docs` builds it."""

from __future__ import annotations

project = "oscarv.virt"
author = "the oscarv.virt authors"
project_copyright = author
extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["docsite"]
html_theme = "sphinx_ansible_theme"
html_title = "oscarv.virt"
myst_heading_anchors = 3
# Links of the generated pages that lead to Ansible's own documentation, which is not part of this site.
suppress_warnings = ["ref.ref", "ref.term", "myst.xref_missing"]
