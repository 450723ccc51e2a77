"""Choose what becomes int8 and rewrite a graph accordingly."""
