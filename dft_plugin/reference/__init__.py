"""`dft reference`."""
