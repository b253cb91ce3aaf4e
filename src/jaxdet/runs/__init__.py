"""Training runs: configuration, data, loop, checkpoints and evaluation."""

from jaxdet.runs.config import TrainConfig as TrainConfig
from jaxdet.runs.evaluation import evaluate as evaluate
from jaxdet.runs.evaluation import evaluate_classifier as evaluate_classifier
from jaxdet.runs.failure import NotFinite as NotFinite
from jaxdet.runs.loop import Run as Run
from jaxdet.runs.read import read_config as read_config
from jaxdet.runs.recipes import RECIPES as RECIPES
from jaxdet.runs.signals import Stopped as Stopped
from jaxdet.runs.task import Task as Task
from jaxdet.runs.task import open_task as open_task
from jaxdet.saving.model import load as load
from jaxdet.saving.model import save as save
from jaxdet.saving.train_state import CheckpointError as CheckpointError
