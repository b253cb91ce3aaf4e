"""Annotation formats, a module each: reading one as a data set, with every fault by file and line."""
