"""Settings from text to values: YAML with places, merging, validation, parts, recipes.

Imports masks, files and errors; never torch.
"""
