"""Top-k accuracy: counted by hand, with ties, padding and few classes."""

import numpy as np
import pytest

from jaxdet.evaluation import Accuracy


def test_hits_are_counted_over_batches():
    accuracy = Accuracy()
    accuracy.add(np.eye(8)[[3, 1]], np.array([3, 2]))  # of equal scores the lower class comes first
    accuracy.add(np.eye(8)[[0]], np.array([7]))
    assert accuracy.result() == {"top1": pytest.approx(1 / 3), "top5": pytest.approx(2 / 3)}


def test_padding_counts_for_nothing():
    accuracy = Accuracy((1, 2))
    scores = np.array([[0.1, 0.9, 0.0], [np.nan] * 3, [0.5, 0.4, 0.3]], np.float32)
    accuracy.add(scores, np.array([1, -1, 1]))
    assert accuracy.result() == {"top1": 0.5, "top2": 1.0}
    accuracy.add(scores, np.full(3, -1))
    assert accuracy.result() == {"top1": 0.5, "top2": 1.0}


def test_ties_go_to_the_lower_class():
    accuracy = Accuracy((1,))
    accuracy.add(np.zeros((2, 3)), np.array([0, 1]))
    assert accuracy.result() == {"top1": 0.5}


def test_ties_go_to_the_lower_class_among_many():
    """Short rows are sorted stably by any algorithm; a row of 1000 is not. Every second class has the higher score."""
    accuracy = Accuracy((5,))
    accuracy.add(np.tile([0.25, 0.75], (2, 500)), np.array([9, 11]))
    assert accuracy.result() == {"top5": 0.5}


def test_counts_of_several_processes_add_up():
    parts = []
    for labels in ([0, 1, 1], [2]):
        one = Accuracy((1, 2))
        one.add(np.tile([[0.5, 0.4, 0.1]], (len(labels), 1)), np.array(labels))
        parts.append(one.counts)
    assert parts == [[1, 3, 3], [0, 0, 1]]
    accuracy = Accuracy((1, 2))
    accuracy.merge(parts)
    assert accuracy.counts == [1, 3, 4] and accuracy.result() == {"top1": 1 / 4, "top2": 3 / 4}


def test_fewer_classes_than_k_and_nothing_at_all():
    accuracy = Accuracy()
    assert accuracy.result() == {"top1": -1.0, "top5": -1.0}
    accuracy.add(np.array([[0.0, 1.0]]), np.array([0]))
    assert accuracy.result() == {"top1": 0.0, "top5": 1.0}


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"expected scores \[B, K\] and labels \[B\], got \(2, 3\) and \(3,\)"):
        Accuracy().add(np.zeros((2, 3)), np.zeros(3, int))
