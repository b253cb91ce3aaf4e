"""Comparison of a PyTorch module with its conversion, stage by stage."""
