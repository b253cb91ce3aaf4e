"""Small layers with PyTorch's numbers, and the masking that makes results independent of padding."""

from jaxdet.nn.deform import DeformConv as DeformConv
from jaxdet.nn.deform import DeformConvNorm as DeformConvNorm
from jaxdet.nn.deform import Upscale as Upscale
from jaxdet.nn.initializers import KAIMING_NORMAL_FAN_OUT as KAIMING_NORMAL_FAN_OUT
from jaxdet.nn.initializers import KAIMING_UNIFORM as KAIMING_UNIFORM
from jaxdet.nn.initializers import TORCH_DEFAULT as TORCH_DEFAULT
from jaxdet.nn.initializers import Normal as Normal
from jaxdet.nn.layers import Activation as Activation
from jaxdet.nn.layers import Conv as Conv
from jaxdet.nn.layers import ConvNormAct as ConvNormAct
from jaxdet.nn.layers import GlobalAvgPool as GlobalAvgPool
from jaxdet.nn.layers import Linear as Linear
from jaxdet.nn.layers import MaxPool as MaxPool
from jaxdet.nn.masking import SIZE_DIVISIBLE as SIZE_DIVISIBLE
from jaxdet.nn.masking import image_extents as image_extents
from jaxdet.nn.masking import inside as inside
from jaxdet.nn.masking import mask as mask
from jaxdet.nn.masking import strided as strided
from jaxdet.nn.norm import BatchNorm as BatchNorm
from jaxdet.nn.norm import FrozenBatchNorm as FrozenBatchNorm
from jaxdet.nn.norm import NormConfig as NormConfig
from jaxdet.nn.numerics import Numerics as Numerics
