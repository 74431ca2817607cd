"""The layer cube between two models: its values, shared between points; its derivatives; its energies.

In come an architecture, two state dicts and data; out come numbers. Nothing here knows of files or experiments. Imports
`networks` and the files at the bottom.
"""
