"""Answers of a model to training prompts, graded, and made into training data (offline reinforcement learning)."""
