"""Where answers come from, one file each: a server, vLLM, transformers, a file."""
