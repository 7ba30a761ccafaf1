"""Pictures as raw data: read, written and drawn in one place, for the codecs and data sets of some. No plugin."""
