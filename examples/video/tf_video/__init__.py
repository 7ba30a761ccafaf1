"""Clips of moving digits beside text: a frame is an item, and each is predicted from those before it."""
