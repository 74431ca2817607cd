"""Pages of the built book in a browser."""

READY = """() => [...document.querySelectorAll('.lmc-chart')].every(e => e.querySelector('svg.marks') && e.querySelector('.vega-actions'))
    && (window.MathJax ? MathJax.startup.promise.then(() => true) : true)"""


def opened(page, url: str) -> None:
    """Open a page and wait until its charts are drawn and its formulas are set."""
    page.goto(url)
    page.wait_for_function(READY)
