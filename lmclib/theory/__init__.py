"""Landscapes that can be solved: products of quadratics in one dimension, and deep linear networks one layer at a time.

In come numbers and tensors; nothing here knows of networks as modules, data sets or runs. Imports `errors` alone.
"""
