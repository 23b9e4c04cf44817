"""`rrsis export`: models as files for other runtimes."""
