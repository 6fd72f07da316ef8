"""What runs inside VLMEvalKit's interpreter: standard library and `vlmeval` only, nothing else of this package."""
