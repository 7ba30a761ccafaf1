"""Text: byte-level BPE and the next-token objective. The smallest complete plugin, and the template."""
