"""The interface that plugins implement: modality, codec, objective, guidance, loss. Imports documents and config."""
