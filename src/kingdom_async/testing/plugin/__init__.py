"""What the pytest plugin puts around tests and fixtures."""
