"""Non-maximum suppression, hard and soft."""
