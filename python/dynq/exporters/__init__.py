"""Export models to other frameworks."""
