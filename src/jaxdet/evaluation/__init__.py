"""Metrics of detection and classification."""

from jaxdet.evaluation.classification import Accuracy as Accuracy
from jaxdet.evaluation.coco import METRICS as METRICS
from jaxdet.evaluation.coco import ClassResult as ClassResult
from jaxdet.evaluation.coco import CocoEvaluator as CocoEvaluator
from jaxdet.evaluation.crowd.evaluator import HeadEvaluator as HeadEvaluator
from jaxdet.evaluation.crowd.matching import ScoredImage as ScoredImage
from jaxdet.evaluation.crowd.metrics import HeadResult as HeadResult
from jaxdet.evaluation.crowd.metrics import evaluate_heads as evaluate_heads
from jaxdet.evaluation.evaluators import METRIC_SETS as METRIC_SETS
from jaxdet.evaluation.evaluators import Evaluator as Evaluator
from jaxdet.evaluation.evaluators import Metrics as Metrics
from jaxdet.evaluation.evaluators import check_metrics as check_metrics
from jaxdet.evaluation.evaluators import make_evaluator as make_evaluator
from jaxdet.evaluation.limits import limit_notes as limit_notes

ScoredPicture = ScoredImage  # the name before it was ScoredImage
