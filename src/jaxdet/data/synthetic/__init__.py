"""Small datasets that are drawn on the spot."""
