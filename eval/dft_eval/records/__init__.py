"""What is written of a run, and how it survives being killed."""
