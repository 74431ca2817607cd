"""Every figure and the ledger's table, one file a subject; importing the package sets the one look that all charts share.

In come tables; out come Altair charts and HTML. Imports `book` and what is below.
"""

from lmclib.charts import style

style.enable()
