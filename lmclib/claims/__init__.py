"""What both papers claim, the rules that judge it, and the verdicts; no HTML and no files.

In come tables of measurements; out come rows of the ledger. Imports `measures` and what is below.
"""
