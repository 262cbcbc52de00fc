"""What is fast, measured against a plain formulation of the same mathematics."""
