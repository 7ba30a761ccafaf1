"""From documents to batches: vocabulary, layout, rows, packing, and what a mask must not do over them.

Imports modalities and masks.
"""
