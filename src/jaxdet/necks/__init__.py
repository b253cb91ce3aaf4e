"""What stands between a backbone and the heads."""

from jaxdet.necks.fpn import FPN as FPN
from jaxdet.necks.fpn import POOL as POOL
from jaxdet.necks.fpn import RetinaFaceFPN as RetinaFaceFPN
from jaxdet.necks.fpn import map_extents as map_extents
