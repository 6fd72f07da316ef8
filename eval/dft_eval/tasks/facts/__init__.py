"""Benchmarks of short factual answers."""
