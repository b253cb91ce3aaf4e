"""The compiled train step, its state, schedules and optimizers."""

from jaxdet.training.optimizers import make_optimizer as make_optimizer
from jaxdet.training.schedules import OptimizerConfig as OptimizerConfig
from jaxdet.training.schedules import make_schedule as make_schedule
from jaxdet.training.spans import Epochs as Epochs
from jaxdet.training.spans import Steps as Steps
from jaxdet.training.state import TrainState as TrainState
from jaxdet.training.state import init_state as init_state
from jaxdet.training.state import to_model as to_model
from jaxdet.training.step import Objective as Objective
from jaxdet.training.step import image_keys as image_keys
from jaxdet.training.step import losses as losses
from jaxdet.training.step import make_train_step as make_train_step
