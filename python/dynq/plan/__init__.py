"""The plan of a model: the bytes of its file, written and read."""
