"""One body, run again and again: its steps seen, struck or put in another order."""
