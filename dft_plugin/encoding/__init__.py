"""From the rows of a data file to the tokens and labels a model is trained on."""
