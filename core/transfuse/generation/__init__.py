"""Decoding: documents continued over a key-value cache. Imports the model."""
