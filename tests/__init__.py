"""A package, so that no other one named ``tests`` that is installed comes before it."""
