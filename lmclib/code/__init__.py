"""The fingerprint of code: what a piece of code reaches, so that a result is found only by the code that made it.

In come functions, classes and the text of notebooks; out come digests. Nothing is run. Imports the files at the bottom alone.
"""
