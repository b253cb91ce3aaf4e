"""Metrics on detections and on classes."""

from jaxdet.evaluation.classification import Accuracy as Accuracy
from jaxdet.evaluation.coco import METRICS as METRICS
from jaxdet.evaluation.coco import ClassResult as ClassResult
from jaxdet.evaluation.coco import CocoEvaluator as CocoEvaluator
from jaxdet.evaluation.head_matching import HeadPicture as HeadPicture
from jaxdet.evaluation.heads import HeadResult as HeadResult
from jaxdet.evaluation.heads import evaluate_heads as evaluate_heads
