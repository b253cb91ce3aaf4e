"""FCOS (Tian et al. 2019), as torchvision computes it."""

from jaxdet.models.fcos.config import FCOSConfig as FCOSConfig
from jaxdet.models.fcos.model import FCOS as FCOS
from jaxdet.models.fcos.presets import PRESETS as PRESETS
from jaxdet.models.fcos.presets import fcos as fcos
