"""A voice as an ONNX file: the graph, and the file that carries and proves it."""
