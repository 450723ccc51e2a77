"""Import models of other frameworks into dynq's graph."""
