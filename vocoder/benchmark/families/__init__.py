"""What is known of one family of models; every file here registers what it knows."""
