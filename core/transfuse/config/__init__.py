"""Settings from text to values: YAML with places, merging, validation, parts, recipes.

Imports masks and errors; never torch.
"""
