"""A run in a folder: training that goes on where it was, records of what came out."""
