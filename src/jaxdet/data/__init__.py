"""Datasets, canvases, the batch plan and the loader: everything before the first array reaches a device."""

from jaxdet.data.batches import Batch as Batch
from jaxdet.data.batches import BatchPlan as BatchPlan
from jaxdet.data.batches import EvalPlan as EvalPlan
from jaxdet.data.batches import Plan as Plan
from jaxdet.data.batches import eval_plan as eval_plan
from jaxdet.data.canvas import canvases as canvases
from jaxdet.data.canvas import choose_canvas as choose_canvas
from jaxdet.data.coco import CocoDataset as CocoDataset
from jaxdet.data.coco import ground_truth as ground_truth
from jaxdet.data.coco import to_coco as to_coco
from jaxdet.data.dataset import DataError as DataError
from jaxdet.data.dataset import DetectionDataset as DetectionDataset
from jaxdet.data.dataset import Example as Example
from jaxdet.data.dataset import Fault as Fault
from jaxdet.data.dataset import Record as Record
from jaxdet.data.dataset import read_image as read_image
from jaxdet.data.loader import LoadedBatch as LoadedBatch
from jaxdet.data.loader import load_batch as load_batch
from jaxdet.data.loader import load_batches as load_batches
from jaxdet.data.shapes import draw_shapes as draw_shapes
from jaxdet.data.transforms import IMAGENET_MEAN as IMAGENET_MEAN
from jaxdet.data.transforms import IMAGENET_STD as IMAGENET_STD
from jaxdet.data.transforms import horizontal_flip as horizontal_flip
from jaxdet.data.transforms import preprocess as preprocess
from jaxdet.data.transforms import resize_boxes as resize_boxes
from jaxdet.data.voc import VocDataset as VocDataset
