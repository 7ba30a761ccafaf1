"""Hypothesis strategies and kits for people who test masks, packers and plugins of their own."""
