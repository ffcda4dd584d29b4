"""Settings of the site. Build it with `sphinx-build -W -n -j auto docs docs/_build/html`."""

import os
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "tests")]

import site_pages
from compile_fast import COMPILE_FAST
from docutils import nodes
from sphinx.addnodes import pending_xref

# The cells of the pages run on a CPU and stay quiet, on whatever machine builds the site.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", COMPILE_FAST)

project = "jaxdescramble"
author = "The jaxdescramble developers"
copyright = "The jaxdescramble developers, Apache-2.0"
version = release = installed_version("jaxdescramble")

extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["_build"]
root_doc = "index"
default_role = "code"
suppress_warnings = ["myst.header"]  # result tables may skip a level of headings
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_show_tb = True
nb_merge_streams = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "jaxdescramble"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

DOCUMENTED = site_pages.documented_names()


def write_pages(app):
    site_pages.write(Path(app.srcdir))


def keep_links_inside(app, docname, source):
    source[0] = site_pages.inside(source[0])


def link_names(app, doctree):
    """Make a link of every public name that stands in code as `jd.name` or `jd.name(...)`."""
    for literal in list(doctree.findall(nodes.literal)):
        match = re.match(r"(?:jd|jaxdescramble)\.([\w.]+)", literal.astext())
        target = DOCUMENTED.get(f"jaxdescramble.{match[1]}") if match else None
        if target and not isinstance(literal.parent, pending_xref | nodes.reference):
            link = pending_xref("", refdomain="py", reftype="obj", reftarget=target, refexplicit=True, refwarn=True)
            literal.replace_self(link)
            link += literal


def setup(app):
    app.connect("builder-inited", write_pages)
    app.connect("source-read", keep_links_inside)
    app.connect("doctree-read", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
