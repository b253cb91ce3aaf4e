"""Convolution operators: plain, depthwise, transposed and deformable."""
