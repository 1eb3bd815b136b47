"""A process is asked and switched from another one, through a socket."""
