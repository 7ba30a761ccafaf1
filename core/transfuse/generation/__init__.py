"""Decoding: documents continued over a key-value cache. Imports the model; training does not know it."""

from transfuse.generation.config import GenerationConfig as GenerationConfig
from transfuse.generation.decoding import generate as generate
from transfuse.generation.decoding import generate_chunks as generate_chunks
