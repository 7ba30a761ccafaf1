"""The transformer: blocks, routing by modality, the model, building it, its weights' groups, averages and counts.

Imports sequences, attention, modalities, registry.
"""
