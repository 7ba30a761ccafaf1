"""From latents to the transformer's width and back."""
