"""One command for the day a GPU is there: `python -m benchmarks.gpu`."""
