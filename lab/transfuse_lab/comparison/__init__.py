"""Recipes compared: the grid of runs, the processes they run in, and the figures they leave.

Imports evaluation, report and runs; the command that compares is all that imports it.
"""
