"""Tensors only: objectives, reduction, losses, token statistics. Knows no framework."""
