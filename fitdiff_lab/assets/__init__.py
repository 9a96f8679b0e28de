"""Commands that build the shipped head and the face networks from their public sources."""
