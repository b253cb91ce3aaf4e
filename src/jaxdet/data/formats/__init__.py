"""Readers of annotation formats, which report all faults with file and line."""
