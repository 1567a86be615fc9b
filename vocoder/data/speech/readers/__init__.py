"""One file for each form of corpus; every file here registers its reader."""
