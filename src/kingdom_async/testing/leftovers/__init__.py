"""What a block has made, which line made it, and whether it is over."""
