"""Detectors as files that JAX alone can run: `load_export` opens what ``jaxdet export`` wrote."""

from jaxdet.export.reader import ExportedDetector as ExportedDetector
from jaxdet.export.reader import load_export as load_export
