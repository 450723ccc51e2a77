"""The base of all of dynq: the call into C, checks of arguments, the container of files."""
