"""RetinaNet (Lin et al. 2017), as torchvision computes it."""
