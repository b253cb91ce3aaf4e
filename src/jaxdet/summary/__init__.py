"""Summaries of models by layers or stages, from shapes alone: `summarize`, `to_text`, `to_dict`."""

from jaxdet.summary.report import Summary as Summary
from jaxdet.summary.report import summarize as summarize
from jaxdet.summary.report import to_dict as to_dict
from jaxdet.summary.report import to_text as to_text
from jaxdet.summary.rows import Row as Row
from jaxdet.summary.rows import Window as Window
from jaxdet.summary.stages import Output as Output
from jaxdet.summary.stages import Stage as Stage
