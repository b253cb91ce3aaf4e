"""The model families and backbones that can be converted, one file each."""
