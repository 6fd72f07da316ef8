"""Evaluation: models as black boxes, scores that can be trusted."""
