"""Pure functions on arrays: no modules, no parameters."""

from jaxdet.ops.box_coder import BoxCoder as BoxCoder
from jaxdet.ops.boxes import box_area as box_area
from jaxdet.ops.boxes import box_iou as box_iou
from jaxdet.ops.boxes import clip_boxes as clip_boxes
from jaxdet.ops.boxes import flip_boxes as flip_boxes
from jaxdet.ops.boxes import large_enough as large_enough
from jaxdet.ops.boxes import scale_boxes as scale_boxes
from jaxdet.ops.matcher import Matcher as Matcher
from jaxdet.ops.matcher import Matches as Matches
from jaxdet.ops.nms import Kept as Kept
from jaxdet.ops.nms import batched_nms as batched_nms
from jaxdet.ops.nms import greedy_nms as greedy_nms
from jaxdet.ops.nms import nms as nms
from jaxdet.ops.nms import nms_keep as nms_keep
from jaxdet.ops.resize import resize_bilinear as resize_bilinear
from jaxdet.ops.resize import resize_nearest as resize_nearest
from jaxdet.ops.resize import resized_size as resized_size
from jaxdet.ops.roi_align import multiscale_roi_align as multiscale_roi_align
from jaxdet.ops.roi_align import roi_align as roi_align
from jaxdet.ops.sampling import Samples as Samples
from jaxdet.ops.sampling import sample_balanced as sample_balanced
