"""The book: the repository is its source folder, so a relative link is the same on GitHub, in JupyterLab and here.

`make book` builds it from the notebooks as they are committed: nothing is executed, and no page loads anything from
another host.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "knowtuning"
author = "the authors of knowtuning"
copyright = "Apache-2.0"
root_doc = "docs/index"
# only these are pages; the excluded folders are never even walked
include_patterns = ["README.md", "LOG.md", "docs/**.md", "notebooks/**.ipynb", "benchmarks/README.md"]
exclude_patterns = [
    ".*",
    "build",
    "cluster",
    "data",
    "figures",
    "knowtuning",
    "knowtuning.egg-info",
    "runs",
    "study",
    "tests",
    "**/.ipynb_checkpoints",
    "**/__pycache__",
]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",
    "accessible_menu",
    "alternative_text",
    "docstrings",
    "repository_links",
]

# notebooks: outputs as they are committed, the richest first
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "text/html", 1), ("html", "image/png", 2), ("html", "text/markdown", 3)]
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "attrs_inline", "colon_fence"]
myst_heading_anchors = 4  # GitHub's names of headings

# API: signatures need names, not libraries that take seconds to import
autodoc_mock_imports = [
    "accelerate",
    "bert_score",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "matplotlib",
    "nltk",
    "openai",
    "peft",
    "pyarrow",
    "safetensors",
    "scipy",
    "snakemake",
    "torch",
    "transformers",
    "trl",
]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # as written: a computed path would be one of this machine
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
# names of other projects cannot be looked up without their sites; ours must resolve
nitpick_ignore_regex = [
    ("py:.*", r"(?!(knowtuning|study)\.).*"),
    ("py:class", r"knowtuning\..*\.[A-Z]"),
]  # nor type variables
# the glossary and the tables begin below a title that GitHub does not need
suppress_warnings = ["myst.header"]

html_theme = "sphinx_book_theme"
html_title = "knowtuning"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_favicon = "_static/favicon.svg"
html_extra_path = ["_extra"]
templates_path = ["_templates"]
html_sidebars = {"**": ["book-title.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
html_context = {"default_mode": "auto"}
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {
    "use_download_button": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "primary_sidebar_end": [],
}
