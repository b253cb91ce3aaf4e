"""Modules between backbone and heads: feature pyramids and context modules."""

from jaxdet.necks.context import CPM as CPM
from jaxdet.necks.context import SSH as SSH
from jaxdet.necks.context import ContextConfig as ContextConfig
from jaxdet.necks.context import DeformSSH as DeformSSH
from jaxdet.necks.context import make_context as make_context
from jaxdet.necks.extra_blocks import POOL as POOL
from jaxdet.necks.extra_blocks import ExtraBlocks as ExtraBlocks
from jaxdet.necks.extra_blocks import LastLevelMaxPool as LastLevelMaxPool
from jaxdet.necks.extra_blocks import LastLevelP6P7 as LastLevelP6P7
from jaxdet.necks.fpn import FPN as FPN
from jaxdet.necks.fpn import RetinaFaceFPN as RetinaFaceFPN
from jaxdet.necks.fpn import map_extents as map_extents
