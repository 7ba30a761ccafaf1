"""For people who test masks of their own: published ones, comparison with a picture, audits."""
