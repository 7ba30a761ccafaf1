"""The transformer: what a block must do, Llama's, the model, building it, its weights' groups, EMA and counts.

Imports sequences, attention, modalities, registry.
"""
