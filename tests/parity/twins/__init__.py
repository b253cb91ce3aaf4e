"""Networks written out in PyTorch, with the state-dict names of the originals, to compare with."""
