"""Blocks with weights of their own for some positions: each modality's layers apart, joined by attention."""
