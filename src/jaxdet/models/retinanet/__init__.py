"""RetinaNet (Lin et al. 2017), equivalent to torchvision's."""

from jaxdet.models.retinanet.config import RetinaNetConfig as RetinaNetConfig
from jaxdet.models.retinanet.model import RetinaNet as RetinaNet
from jaxdet.models.retinanet.presets import PRESETS as PRESETS
from jaxdet.models.retinanet.presets import retinanet as retinanet
