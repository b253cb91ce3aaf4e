"""Detection heads, anchors, target assignment and post-processing."""

from jaxdet.heads.anchors import AnchorGenerator as AnchorGenerator
from jaxdet.heads.box_detections import postprocess as postprocess
from jaxdet.heads.box_head import BoxConfig as BoxConfig
from jaxdet.heads.box_head import FastRCNNConvFCHead as FastRCNNConvFCHead
from jaxdet.heads.box_head import FastRCNNPredictor as FastRCNNPredictor
from jaxdet.heads.box_head import RoIOutputs as RoIOutputs
from jaxdet.heads.box_head import TwoMLPHead as TwoMLPHead
from jaxdet.heads.dense_head import DenseHead as DenseHead
from jaxdet.heads.dense_head import DenseOutputs as DenseOutputs
from jaxdet.heads.proposals import select_proposals as select_proposals
from jaxdet.heads.roi_pool import MultiScaleRoIAlign as MultiScaleRoIAlign
from jaxdet.heads.roi_pool import assign_levels as assign_levels
from jaxdet.heads.roi_pool import pool_proposals as pool_proposals
from jaxdet.heads.rpn import RPNConfig as RPNConfig
from jaxdet.heads.rpn import RPNHead as RPNHead
from jaxdet.heads.rpn import RPNOutputs as RPNOutputs
