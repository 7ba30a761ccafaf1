"""A run in a folder: its codecs, its training, which goes on where it was, and the record of what came out.

Imports data sets and core; what measures, draws or compares runs stands above.
"""
