"""Training arms through the frameworks' own command lines, compared."""
