"""Data sets as bytes in memory, decoded once: what they are called, where they come from, and the card by which results know them.

In come names and files; out go tensors. Imports `errors` alone.
"""
