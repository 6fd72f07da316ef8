"""`dft probs`: the same tokens, teacher-forced, through several checkpoints (DFT paper, Figure 2)."""
