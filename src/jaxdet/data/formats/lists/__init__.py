"""Conversion of head detection datasets to HeadHunter lists."""

from jaxdet.data.formats.lists.conversion import Conversion as Conversion
from jaxdet.data.formats.lists.crohd import convert_crohd as convert_crohd
from jaxdet.data.formats.lists.crowd_human import convert_crowd_human as convert_crowd_human
from jaxdet.data.formats.lists.scut_head import convert_scut_head as convert_scut_head
