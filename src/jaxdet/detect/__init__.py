"""Detection over any number of images, by one process or several."""

from jaxdet.detect.run import Detected as Detected
from jaxdet.detect.run import detect as detect
