"""The normal form of a mask, found from the structure of its columns: slices of queries × keys, never all pairs.

It works on expressions and arrays; `Mask.slices` is the way in, and attention reads slices and their blocks.
"""
