"""Emoji with their names, built by npm from pinned packages; some compositions are held out."""
