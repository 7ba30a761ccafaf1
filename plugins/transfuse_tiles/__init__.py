"""The CPU's training kernel: attention in tiles of queries times the keys they see."""
