"""Diffusion of any modality's spans: objectives and samplers; it imports core alone, and others reach it by name."""
