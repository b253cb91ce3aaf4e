"""Detectors exported as programs that run with JAX alone. `load_export` opens the output of ``jaxdet export``."""

from jaxdet.export.reader import ExportedDetector as ExportedDetector
from jaxdet.export.reader import load_export as load_export
