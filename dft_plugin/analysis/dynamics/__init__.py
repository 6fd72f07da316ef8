"""`dft dynamics`: scores and likelihood of training runs' checkpoints by training step (DFT paper, Figure 1)."""
