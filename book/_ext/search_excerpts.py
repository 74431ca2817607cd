"""Excerpts under the search's results, also where the site is opened from disk.

Sphinx fetches each page that it has found, to quote from it, which a browser forbids for files. This writes what it would read, section by
section, into one script that the search page loads.
"""

import html
import json
from pathlib import Path

from docutils import nodes

SCRIPT = """// what the search page quotes from, as a page opened from disk may fetch nothing
(function (pages, fetch) {
  window.fetch = function (address, options) {
    var page = pages[String(address).replace(/^[.][/]/, "").split(/[?#]/)[0]];
    return page ? Promise.resolve(new Response(page)) : fetch.call(window, address, options);
  };
})(%s, window.fetch);
"""


def setup(app):
    """Write the script when all pages are read, and load it where one searches."""
    app.connect("html-page-context", _load)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _load(app, pagename, templatename, context, doctree):
    if pagename == "search":
        app.add_js_file("excerpts.js")


def _write(app, exception):
    if exception is None and app.builder.format == "html":
        pages = {
            app.builder.get_target_uri(name): f"<div role='main'>{_sections(app.env.get_doctree(name))}</div>"
            for name in sorted(app.env.found_docs)
        }
        script = SCRIPT % json.dumps(pages, ensure_ascii=False)
        (Path(app.outdir) / "_static" / "excerpts.js").write_text(script, encoding="utf-8")


def _sections(node):
    """The text of a page, with the anchors by which the search names its sections; code and charts are left out."""
    if isinstance(node, nodes.section):
        return f"<section id='{node['ids'][0]}'>{''.join(map(_sections, node.children))}</section>"
    if isinstance(node, nodes.literal_block | nodes.raw | nodes.math_block | nodes.comment):
        return ""
    if isinstance(node, nodes.TextElement):
        return f"<p>{html.escape(node.astext())}</p>"
    return "".join(map(_sections, node.children))
