"""Figures: one file a subject; importing the package sets the one look that all charts share."""

from lmclib.charts import style

style.enable()
