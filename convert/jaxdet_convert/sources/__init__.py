"""Where models come from: a file a family of models, and one a backbone, under PyTorch's or Darknet's names."""
