"""Build the shipped head and face networks from their public sources."""
