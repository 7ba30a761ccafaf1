"""Images: autoencoder latents, patchers, diffusion objectives and samplers, each a named part."""
