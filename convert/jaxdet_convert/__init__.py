"""Conversion of weights from PyTorch and Darknet to jaxdet and back. Reading and writing them needs no torch."""

from jaxdet_convert.apply import ConversionError as ConversionError
from jaxdet_convert.backbone import load_backbone as load_backbone
from jaxdet_convert.export import to_torch as to_torch
from jaxdet_convert.live import from_torch as from_torch
from jaxdet_convert.load import Conversion as Conversion
from jaxdet_convert.load import convert_weights as convert_weights
from jaxdet_convert.load import load_torch as load_torch
from jaxdet_convert.load import official_config as official_config
from jaxdet_convert.official import OfficialWeightsError as OfficialWeightsError
from jaxdet_convert.official import find_official as find_official
from jaxdet_convert.options_file import save_model as save_model
from jaxdet_convert.parity.compare import compare as compare
from jaxdet_convert.parity.report import Report as Report
from jaxdet_convert.read.errors import WeightsError as WeightsError
from jaxdet_convert.read.weights import Weights as Weights
from jaxdet_convert.read.weights import read_weights as read_weights
from jaxdet_convert.sources.base import RecognitionError as RecognitionError
from jaxdet_convert.sources.base import UnsupportedModuleError as UnsupportedModuleError
from jaxdet_convert.write import save_torch as save_torch
