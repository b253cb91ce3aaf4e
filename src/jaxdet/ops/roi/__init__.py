"""Pooling of regions: RoIAlign, RoIPool and their position-sensitive variants."""
