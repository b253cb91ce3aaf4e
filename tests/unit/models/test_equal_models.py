"""Equal models are equal to JAX: they share compiled programs, and they pickle."""

from __future__ import annotations

import pickle

import jax
import numpy as np
import pytest
from flax import nnx

import jaxdet
from jaxdet.inference import infer_step, logits_step
from jaxdet.models import build, model_config
from jaxdet.saving.model import arrays
from small_detector import ONE_LEVEL, tiny_config

# One of each kind of module: strided and dense kernels, depthwise ones, v2's heads, context, upscaling, deformation.
MODELS = {
    "resnet50": {},
    "mobilenet_v1": {"width": 0.25},
    "darknet53": {},
    "fasterrcnn_resnet50_fpn_v2": {},
    "retinanet_resnet50_fpn_v2": {},
    "fcos_resnet50_fpn": {},
    "fasterrcnn_mobilenet_v1_fpn": {"backbone_width": 0.25},
    "headhunter_mobilenet": {"context": "deform_ssh", "upscale_rpn": True, "soft_nms": True},
}


@pytest.fixture(scope="module")
def tiny():
    return build(tiny_config(**ONE_LEVEL), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", MODELS)
def test_equal_models_have_equal_graph_definitions(name):
    config = model_config(name, **MODELS[name])

    def graph():
        return nnx.split(nnx.eval_shape(lambda: build(config, rngs=nnx.Rngs(jax.random.key(0)))))[0]

    one, other = graph(), graph()
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one  # what multiprocessing sends


def test_loaded_models_share_one_program(tiny, tmp_path):
    jaxdet.save(tiny, tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    infer_step.clear_cache()
    found = [jaxdet.predict(jaxdet.load(tmp_path / "model"), [image], score_threshold=0.0)[0] for _ in range(3)]
    assert infer_step._cache_size() == 1
    assert len(found[0]["boxes"])
    for one in found[1:]:
        np.testing.assert_array_equal(one["boxes"], found[0]["boxes"])


def test_classifiers_share_one_program():
    logits_step.clear_cache()
    x = np.zeros((1, 32, 32, 3), np.float32)
    for seed in (0, 1):
        model = jaxdet.create_model("mobilenet_v1", width=0.25, num_classes=3, rngs=nnx.Rngs(seed))
        logits_step(*nnx.split(model), x)
    assert logits_step._cache_size() == 1


def test_models_pickle(tiny):
    again = pickle.loads(pickle.dumps(tiny))
    assert again.config == tiny.config
    assert arrays(again).keys() == arrays(tiny).keys()
    for name, array in arrays(tiny).items():
        np.testing.assert_array_equal(arrays(again)[name], array)
