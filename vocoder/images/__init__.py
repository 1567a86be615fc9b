"""Image models at work: drawing samples and showing them."""
