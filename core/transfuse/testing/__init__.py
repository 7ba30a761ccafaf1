"""For tests of your own masks, packers and plugins: Hypothesis strategies, and two modalities to check by eye.

Imports any room of core; nothing imports it but tests.
"""
