"""The loss in LLaMA-Factory."""
