"""What a reader gets to see of it: trees, tables, pages, and what other tools draw."""
