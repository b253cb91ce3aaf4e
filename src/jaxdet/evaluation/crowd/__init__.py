"""Crowd metrics: detection of one class in crowds, with ignored regions."""
