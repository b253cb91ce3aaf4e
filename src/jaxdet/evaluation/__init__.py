"""Metrics on detections and on classes."""

from jaxdet.evaluation.classification import Accuracy as Accuracy
from jaxdet.evaluation.coco import METRICS as METRICS
from jaxdet.evaluation.coco import ClassResult as ClassResult
from jaxdet.evaluation.coco import CocoEvaluator as CocoEvaluator
