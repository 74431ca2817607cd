"""What all live controls share: a line of text where no kernel can answer."""

import ipywidgets as widgets


class LiveBox(widgets.VBox):
    """A box of controls that is a line of text where no kernel can answer."""

    NOTE = "This control needs Python: open the chapter with <code>make lab</code>. The sliders on this page work without it."

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        return {**super()._repr_mimebundle_(**kwargs), "text/html": f"<p><em>{self.NOTE}</em></p>"}
