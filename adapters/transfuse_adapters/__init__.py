"""Adapters: one external system a file, behind the doors of this framework."""
