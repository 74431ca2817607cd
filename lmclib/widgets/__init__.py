"""Live controls for a notebook, a file a chapter; on a page without Python each says where it works.

In come settings, cubes and tables. Imports `charts` and what is below.
"""
