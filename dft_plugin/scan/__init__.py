"""`dft scan`: what a base model finds probable in data, before anything is trained."""
