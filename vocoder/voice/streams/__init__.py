"""Ways to stream: one file for each family of models; every file here registers its own."""
