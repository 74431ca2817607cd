"""Architectures, one file a family, their layers in the order of the forward pass, the form of a network that can be
differentiated twice and in forward mode, and many networks as one wide one.

In come networks only: no data sets, runs or results. Imports `errors` alone.
"""
