"""Sources of answers, one file each: a server, vLLM, transformers, a file."""
