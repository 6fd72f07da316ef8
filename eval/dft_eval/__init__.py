"""Evaluation: models as black boxes, scores one can trust."""
