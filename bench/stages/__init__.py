"""What bench/gpu.py asks of a GPU, by subject; each stage takes a `Size` and gives figures."""
