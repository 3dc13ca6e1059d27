"""Settings of Sphinx. From the root of the repository: ``sphinx-build -W docs docs/_build``."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

import jaxdenoise  # noqa: E402

project = "jaxdenoise"
author = "The jaxdenoise developers"
release = version = jaxdenoise.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "command_line",
    "packages",
    "experiment_results",
]
smartquotes = False  # two hyphens begin a flag
exclude_patterns = ["_build", "results/_index.md"]

# Markdown pages.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings. Single backticks name Python objects, and link to those that exist.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of NamedTuples and dataclasses, which autodoc sees as well
napoleon_attr_annotations = False  # shapes such as "*stack H W" are no reST
napoleon_custom_sections = ["Source", "Sources"]

html_theme = "pydata_sphinx_theme"
html_title = f"jaxdenoise {release}"
html_static_path = ["_static"]
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
}
html_show_sourcelink = False
