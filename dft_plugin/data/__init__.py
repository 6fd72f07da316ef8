"""Training data of both frameworks, built from public datasets by declarative recipes."""
