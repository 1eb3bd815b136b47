"""What a recording writes while the program runs: rows of raw entries, and who writes them."""
