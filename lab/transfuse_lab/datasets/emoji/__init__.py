"""The emoji: fetched by npm from pinned packages, built once, some compositions held out. Used by name only."""
