"""Mathematics benchmarks: the final answer is compared with the reference."""
