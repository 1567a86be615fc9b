"""What models are trained on: corpora of speech in `speech`, sets of pictures in `images`."""
