"""Two checkpoints of a reader's own: read from disk, measured, and merged layer by layer where that helps.

In come paths of checkpoints, names of models and of data; out come plans, one merged file and its card. Loading a checkpoint never
executes code. Imports `measures` and what is below.
"""
