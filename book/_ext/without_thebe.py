"""Jupyter Book always sets up Thebe, which names a CDN on every page; this book runs its code elsewhere."""


def setup(app):
    """Take Thebe's listeners out before they add anything to a page."""
    for listeners in app.events.listeners.values():
        listeners[:] = [entry for entry in listeners if "sphinx_thebe" not in getattr(entry.handler, "__module__", "")]
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if "thebe" not in entry[0]]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
