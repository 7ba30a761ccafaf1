"""A training step and what it needs: the stream, loss combination, schedules.

For other people's loops too. Imports model and checkpoints.
"""
