"""Reports on the data of a run before it starts, and packing of datasets."""
