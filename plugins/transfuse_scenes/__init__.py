"""A world of coloured shapes, every caption's probability known and every picture read back exactly."""
