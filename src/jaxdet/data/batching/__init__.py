"""From a data set to batches on canvases: the plan, the rows, the loader and its workers."""
