"""Code benchmarks: a program is run against the benchmark's tests."""
