"""`dft demo`: what DFT is good and bad for, on a tiny model, through the real frameworks, in a few minutes."""
