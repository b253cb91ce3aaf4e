"""Saving and loading of models and checkpoints."""
