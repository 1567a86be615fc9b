"""What the commands do with files of mels and of sound."""
