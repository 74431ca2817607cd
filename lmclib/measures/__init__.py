"""What is measured on cubes and pairs: barriers, layers, geometry, predictions, and how well they agree.

In come cubes, families and state dicts; out come tidy tables. No judgement, no figures. Imports `runs` and what is below.
"""
