"""The documentation site: `make docs` builds it into build/docs. Every warning of Sphinx is an error there."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

project = "forage"
author = "the authors of forage"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_code"]
html_theme = "furo"
html_title = "forage"
html_copy_source = False
html_show_copyright = False
exclude_patterns = ["*.py"]

myst_heading_anchors = 4  # links such as page.md#a-heading, as on GitHub
myst_enable_extensions = ["colon_fence"]
highlight_language = "none"  # of indented blocks; fenced blocks name theirs

default_role = "code"  # docstrings write names in single backquotes
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures show the types as the source writes them
autodoc_preserve_defaults = True
napoleon_use_ivar = True
