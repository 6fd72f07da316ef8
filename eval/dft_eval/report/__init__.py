"""`dft report`: run folders compared; knows files only."""
