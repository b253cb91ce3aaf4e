"""From a dataset to batches on canvases: the plan, the rows, the loader and its workers."""
