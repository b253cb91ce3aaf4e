"""Batching: canvases, batch plan, rows of batches, loader and workers."""
