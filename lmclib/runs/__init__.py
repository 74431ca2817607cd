"""Experiments: what to fork and train, what of it is stored already, and the cubes between any two networks that were trained.

In come specs and a store; out come families, pairs, and tables of measurements over pairs. Imports `cube`, `training`, `store`
and what is below them.
"""
