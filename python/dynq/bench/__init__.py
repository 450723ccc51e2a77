"""Measuring dynq on this machine: what ``dynq bench`` runs."""
