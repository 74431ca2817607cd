"""The book: a chapter's settings and profiles, its measuring as a plain script, estimates, committed results, building the site.

In come parameters and notebooks; out come settings, results and a site. No figures. Imports `claims` and what is below.
"""
