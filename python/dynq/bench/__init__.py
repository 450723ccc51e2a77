"""Measure dynq on this machine, for ``dynq bench``."""
