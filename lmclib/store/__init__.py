"""What is remembered: checkpoints and tables under addresses made of everything that decides their content, checked when read.

In come descriptions, the functions that compute, state dicts and tables; out come the same, or the news that they are missing.
Nothing here knows what a fork or a barrier is. Imports `data` and the files at the bottom.
"""
