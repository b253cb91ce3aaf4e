"""Compiling a run for a TPU pod on a machine without a TPU: `make_plan`, `to_text`, `to_dict`."""

from jaxdet.planning.chips import CHIPS as CHIPS
from jaxdet.planning.chips import Topology as Topology
from jaxdet.planning.chips import parse_topology as parse_topology
from jaxdet.planning.compiler import DoesNotFit as DoesNotFit
from jaxdet.planning.compiler import compile_traced as compile_traced
from jaxdet.planning.compiler import pod_mesh as pod_mesh
from jaxdet.planning.hlo import read_program as read_program
from jaxdet.planning.plan import Plan as Plan
from jaxdet.planning.plan import make_plan as make_plan
from jaxdet.planning.programs import Job as Job
from jaxdet.planning.programs import evaluation_step as evaluation_step
from jaxdet.planning.programs import train_step as train_step
from jaxdet.planning.report import to_dict as to_dict
from jaxdet.planning.report import to_text as to_text
