"""HeadHunter (Sundararaman et al. 2021): head detection in dense crowds."""

from jaxdet.models.headhunter.config import HeadHunterConfig as HeadHunterConfig
from jaxdet.models.headhunter.model import HeadHunter as HeadHunter
from jaxdet.models.headhunter.presets import PRESETS as PRESETS
from jaxdet.models.headhunter.presets import headhunter_config as headhunter_config
