"""Images: codecs, patchers and the picture modality, which finds its objective and sampler by name."""
