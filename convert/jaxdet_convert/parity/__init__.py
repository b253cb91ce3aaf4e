"""A live PyTorch module beside its conversion, stage by stage."""
