"""Faster R-CNN (Ren et al. 2015) with a feature pyramid, as torchvision computes it."""
