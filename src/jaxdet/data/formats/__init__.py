"""Annotation formats, a module each: reading one as a dataset, with every fault by file and line."""
