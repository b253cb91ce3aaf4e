"""Metrics on detections."""

from jaxdet.evaluation.coco import METRICS as METRICS
from jaxdet.evaluation.coco import CocoEvaluator as CocoEvaluator
