"""Training: recipes, data order, networks in lock-step, recorded steps, and the loop that drives them all.

In come an architecture, a data set, a recipe and runs; out go state dicts, through call-backs. It knows of no files and no
experiments. Imports `data`, `networks` and the files at the bottom.
"""
