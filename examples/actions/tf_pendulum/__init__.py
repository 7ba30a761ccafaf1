"""A policy as a model of documents: words, what is sensed, and the chunk of actions to take."""
