"""One file for each data set; every file here registers its reader."""
