"""Vision-language benchmarks through VLMEvalKit, which runs in a process and an environment of its own."""
