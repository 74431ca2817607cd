"""Pages of the built book in a browser."""

READY = """() => [...document.querySelectorAll('.lmc-chart')].filter(e => e.offsetParent)
    .every(e => e.querySelector('svg.marks') && e.querySelector('.vega-actions'))
    && (window.MathJax ? MathJax.startup.promise.then(() => true) : true)"""


def opened(page, url: str) -> None:
    """Open a page and wait until it is drawn."""
    page.goto(url)
    drawn(page)


def drawn(page) -> None:
    """Wait until all charts that are to be seen are drawn, and formulas are set."""
    page.wait_for_function(READY)


def settled(page) -> None:
    """Wait until what was done in a page is drawn: Vega follows at once, and the next frame but one shows it."""
    page.evaluate("() => new Promise(shown => requestAnimationFrame(() => requestAnimationFrame(shown)))")
