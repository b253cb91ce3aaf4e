"""A training run as a whole."""

from jaxdet.runs.checkpoint import load as load
from jaxdet.runs.checkpoint import save as save
from jaxdet.runs.config import TrainConfig as TrainConfig
from jaxdet.runs.config import model_for as model_for
from jaxdet.runs.config import read_config as read_config
from jaxdet.runs.evaluate import evaluate as evaluate
from jaxdet.runs.loop import train as train
