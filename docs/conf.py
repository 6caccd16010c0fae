"""How Sphinx builds the site: everything from this repository, nothing from the network, every reference checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nrc_fast

# The width of the commands' help.
os.environ["COLUMNS"] = "92"
sys.path.insert(0, str(Path(__file__).parent))

project = "nrc_fast"
author = "the nrc_fast developers"
version = release = nrc_fast.__version__
root_doc = "index"
exclude_patterns = ["README.md"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "docstrings",
    "examples",
    "exponents",
    "generated",
    "mathml",
    "repository",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Notebooks are shown with the outputs that they hold: tests/test_tutorial.py executes them.
nb_execution_mode = "off"

nitpicky = True
# Quotes and dots stay as they are typed: they are often values and code.
smartquotes = False
default_role = "py:obj"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "nrc_fast"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
pygments_dark_style = "github-dark"
html_copy_source = False
# Two modules have docstrings of their own; the reference has all.
html_domain_indices = False
