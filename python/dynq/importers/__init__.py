"""Models of other frameworks, brought into dynq's graph."""
