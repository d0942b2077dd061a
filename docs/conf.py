"""Sphinx: how the documentation is built (`make docs`)."""

from __future__ import annotations

import poolwise

project = "poolwise"
author = "the poolwise developers"
version = release = poolwise.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = False

html_theme = "furo"
html_title = f"poolwise {release}"
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
