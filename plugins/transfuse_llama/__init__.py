"""Llama's blocks, of all modalities or one for each, and the folders in which such language models are kept."""
