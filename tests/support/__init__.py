"""What the tests share: backends, virtual time, and native cancellation at every turn."""
