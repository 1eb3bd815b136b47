"""What the operations of kingdom_async cost beside those they stand in for."""
