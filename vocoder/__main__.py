"""`python -m vocoder`, which is what torchrun launches."""

from vocoder.cli import main

main()
