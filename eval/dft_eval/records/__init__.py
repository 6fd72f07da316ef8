"""Files of a run folder: written so that a killed run resumes, read back with every record checked."""
