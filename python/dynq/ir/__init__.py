"""The op graph as data: values, nodes, shapes, and the methods that write them."""
