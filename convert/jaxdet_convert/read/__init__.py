"""Weights files as arrays: data, never code."""
