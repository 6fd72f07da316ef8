"""Vision-language benchmarks, asked and judged through VLMEvalKit."""
