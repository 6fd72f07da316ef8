"""Analyses of a trained model's tokens."""
