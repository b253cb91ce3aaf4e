"""Detection on any number of images, by one or several processes."""

from jaxdet.detect.run import Detected as Detected
from jaxdet.detect.run import detect as detect
