"""The site of the documentation: `sphinx-build -W --keep-going -n docs build/docs`."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "foveabench"
author = "the authors of foveabench"
version = release = version_of("foveabench")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]  # which index.rst includes
myst_heading_anchors = 3  # as on GitHub

html_theme = "furo"
html_title = "foveabench"
html_theme_options = {"source_edit_link": ""}
html_copy_source = False

default_role = "code"  # docstrings have code in single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "__init__, __new__"}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

nitpick_ignore_regex = [(r"py:.*", r".*")]
