"""The site of the documentation: `sphinx-build -W --keep-going -n docs build/docs`."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of

from sphinx.application import Sphinx

project = "foveabench"
author = "the authors of foveabench"
version = release = version_of("foveabench")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]  # which index.rst includes
myst_heading_anchors = 3  # as on GitHub

html_theme = "furo"
html_title = "foveabench"
html_copy_source = False
html_show_copyright = False

default_role = "code"  # docstrings have code in single backticks
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes without a docstring of their own are described once
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# Annotations name what other packages, whose inventories are elsewhere, and what private modules define
nitpick_ignore_regex = [("py:.*", ".*")]
suppress_warnings = ["ref.python"]  # bench.System is also bench.systems.registry.System, and either will do


def _link_to_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Markdown beside docs/ is no page of the site, and is linked to as the file that it is."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)\)", r"](path:\1)", source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _link_to_files)
