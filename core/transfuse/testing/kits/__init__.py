"""Kits: for each kind of part the laws that one must keep, as named checks, and the runner that all of them share.

They need neither pytest nor Hypothesis. `transfuse.testing` has them as test classes; ``transfuse plugins check``
runs them from the command line.
"""
