"""`jaxdet summary`: torchsummary's rows and arithmetic for classifiers, the stages of detectors."""

import json
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from flax import nnx

from jaxdet.cli.__main__ import main
from jaxdet.models import abstract, model_config
from jaxdet.nn import Upscale
from jaxdet.saving.model import fill, flatten, save
from jaxdet.summary import summarize, to_text
from jaxdet.summary.rows import trace


def summary_of(name, height, width, batch=None, **options):
    return summarize(abstract(model_config(name, **options)), height, width, batch=batch)


def test_resnet50_at_1920x1080_is_what_torchsummary_prints():
    summary = summary_of("resnet50", 1920, 1080)
    assert len(summary.rows) == 174
    names = [f"{row.kind}-{row.number}" for row in summary.rows]
    assert names[:5] == ["Conv2d-1", "BatchNorm2d-2", "ReLU-3", "MaxPool2d-4", "Conv2d-5"]
    assert names[-3:] == ["Bottleneck-172", "AdaptiveAvgPool2d-173", "Linear-174"]
    assert summary.parameters == summary.trainable == sum(row.parameters for row in summary.rows) == 25_557_032
    shapes = {row.path: row.shape for row in summary.rows}
    assert shapes["conv1.conv"] == (64, 960, 540)
    assert shapes["layer1.2"] == (256, 480, 270)
    assert shapes["layer2.3"] == (512, 240, 135)
    assert shapes["layer3.5"] == (1024, 120, 68)
    assert shapes["layer4.2"] == (2048, 60, 34)
    text = to_text(summary)
    for line in (
        "Total params: 25,557,032",
        "Trainable params: 25,557,032",
        "Non-trainable params: 0",
        "Input size (MB): 23.73",
        "Forward/backward pass size (MB): 11862.45",
        "Params size (MB): 97.49",
        "Estimated Total Size (MB): 11983.67",
    ):
        assert f"\n{line}\n" in text


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_resnet50_has_the_rows_and_macs_that_hooks_see_in_torchvision(size):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from torchvision_cpu import import_torchvision

    try:
        torchvision = import_torchvision()
    except ImportError as error:
        pytest.skip(str(error))
    with torch.device("meta"):
        model = torchvision.models.resnet50().eval()
        x = torch.zeros(2, 3, *size)
    seen = []

    def hook(module, _, output):
        own = sum(p.numel() for p in module.parameters(recurse=False))
        seen.append((type(module).__name__, tuple(output.shape[1:]), own))

    for module in model.modules():
        if module is not model and not isinstance(module, torch.nn.Sequential):
            module.register_forward_hook(hook)
    with FlopCounterMode(display=False) as flops:
        model(x)
    summary = summary_of("resnet50", *size, batch=2)
    assert [(row.kind, row.shape, row.parameters) for row in summary.rows] == seen
    assert 2 * summary.macs == flops.get_total_flops()


def test_darknet53_at_256():
    summary = summary_of("darknet53", 256, 256)
    assert summary.parameters == summary.trainable == 40_603_378
    shapes = {row.path: row.shape for row in summary.rows}
    assert shapes["stem.act"] == (32, 256, 256)
    assert shapes["stage1.downsample.act"] == shapes["stage1.blocks.0"] == (64, 128, 128)
    assert shapes["stage2.blocks.1"] == (128, 64, 64)
    assert shapes["stage3.blocks.7"] == (256, 32, 32)
    assert shapes["stage4.blocks.7"] == (512, 16, 16)
    assert shapes["stage5.blocks.3"] == (1024, 8, 8)
    assert [row.shape for row in summary.rows[-2:]] == [(1024, 1, 1), (18,)]
    kinds = [row.kind for row in summary.rows]
    assert [kinds.count(kind) for kind in ("Conv2d", "BatchNorm2d", "LeakyReLU", "DarkResidual")] == [52, 52, 52, 23]


@pytest.mark.parametrize("name", ["darknet53", "resnet50", "mobilenet_v1"])
@pytest.mark.parametrize("size", [(256, 256), (417, 333)])
def test_every_window_gives_the_size_that_the_formula_gives(name, size):
    rows = [row for row in summary_of(name, *size).rows if row.kind in ("Conv2d", "MaxPool2d")]
    assert len(rows) == {"darknet53": 52, "resnet50": 54, "mobilenet_v1": 27}[name]
    for row in rows:
        window, before = row.window, row.input_shape[1:]
        sides = zip(before, window.kernel, window.stride, window.padding, strict=True)
        assert row.shape[1:] == tuple((i - k + 2 * p) // s + 1 for i, k, s, p in sides)


def test_depthwise_convolutions_count_one_channel_of_input():
    rows = summary_of("mobilenet_v1", 64, 64).rows
    depthwise = next(row for row in rows if row.path == "stage1.0.depthwise.conv")
    assert (depthwise.parameters, depthwise.macs) == (8 * 9, 8 * 9 * 32 * 32)
    assert [row.kind for row in rows[3:10]] == [
        "Conv2d", "BatchNorm2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU", "DepthwiseSeparable",
    ]  # fmt: skip


def test_a_detector_by_its_stages():
    summary = summary_of("fasterrcnn_resnet50_fpn", 800, 1333)
    stages = {stage.name: stage for stage in summary.stages}
    assert list(stages) == [
        "Transform", "Backbone", "FPN", "RPN head", "Anchors", "Proposals", "RoIAlign", "Box head", "Predictor",
        "Post-processing",
    ]  # fmt: skip
    assert sum(stage.parameters for stage in summary.stages) == summary.parameters
    assert sum(stage.macs for stage in summary.stages) == summary.macs
    giga = {name: round(stage.macs / 1e9, 1) for name, stage in stages.items() if stage.macs}
    assert giga == {"Backbone": 87.6, "FPN": 60.9, "RPN head": 53.1, "Box head": 13.9, "Predictor": 0.5}
    assert round(summary.macs / 1e9, 1) == 216.0
    assert (summary.trainable, summary.frozen) == (41_755_286, 53_120)

    def shapes(name):
        return {output.name: output.shape for output in stages[name].outputs}

    assert shapes("Transform") == {"image": (3, 800, 1333), "resized": (3, 800, 1333), "canvas": (3, 800, 1344)}
    assert shapes("Backbone")["layer4"] == (2048, 25, 42)
    assert shapes("FPN")["pool"] == (256, 13, 21)
    assert shapes("RPN head")["layer1 logits"] == (201_600,)
    assert shapes("Anchors")["pool"] == (819, 4)
    assert "every 61x64 px" in stages["Anchors"].outputs[-1].note
    assert shapes("Proposals")["boxes"] == (1000, 4)
    assert shapes("RoIAlign") == {"pooled": (1000, 256, 7, 7)}
    assert shapes("Box head") == {"features": (1000, 1024)}
    assert shapes("Predictor") == {"logits": (1000, 91), "deltas": (1000, 91, 4)}
    assert shapes("Post-processing")["boxes"] == (100, 4)
    lines = to_text(summary).splitlines()
    assert [line.split(".")[0] for line in lines if line[:1].isdigit()] == [str(number) for number in range(1, 11)]


def test_a_image_is_resized_first_and_levels_keep_their_order():
    stages = {stage.name: stage for stage in summary_of("fasterrcnn_darknet53_fpn", 480, 600).stages}
    transform = stages["Transform"].outputs
    assert [output.shape for output in transform] == [(3, 480, 600), (3, 800, 1000), (3, 800, 1024)]
    assert "800x1088" in transform[-1].note  # predict's canvas
    assert [output.name for output in stages["Backbone"].outputs] == [f"stage{number}" for number in range(1, 6)]
    anchors = stages["Anchors"].outputs
    counts = [3 * height * width for height, width in ((200, 256), (100, 128), (50, 64), (25, 32), (13, 16))]
    assert [output.name for output in anchors] == ["stage2", "stage3", "stage4", "stage5", "pool"]
    assert [output.shape for output in anchors] == [(count, 4) for count in counts]
    assert [output.note.split()[1] for output in anchors] == ["4x4", "8x8", "16x16", "32x32", "61x64"]
    assert [output.shape for output in stages["RPN head"].outputs[:5]] == [(count,) for count in counts]


def test_a_detector_that_does_not_enlarge():
    small = summary_of("headhunter_mobilenet", 96, 128, batch=2)
    transform = small.stages[0].outputs
    assert [output.shape for output in transform] == [(3, 96, 128)] * 3
    assert small.macs == 2 * summary_of("headhunter_mobilenet", 96, 128).macs


def test_a_transposed_convolution_multiplies_at_every_place_of_its_input():
    layer = nnx.eval_shape(lambda: Upscale(4, rngs=nnx.Rngs(0)))
    (row,), _ = trace(nnx.List([layer]), lambda layers, x: layers[0](x), jax.ShapeDtypeStruct((2, 3, 5, 4), "float32"))
    assert (row.input_shape, row.shape, row.macs) == ((4, 3, 5), (4, 6, 10), 2 * 3 * 5 * 8 * 8 * 4 * 4)
    assert row.parameters == 8 * 8 * 4 * 4 + 4 and row.elements == 2 * 15 * 4 + 2 * 60 * 4 + 8 * 8 * 4 * 4


def test_torchvisions_own_counts_for_its_detectors():
    """Its metadata: billions of multiplications at 800x800, and parameters."""
    pairs = {"fasterrcnn_resnet50_fpn": (134.38, 41_755_286), "fasterrcnn_resnet50_fpn_v2": (280.371, 43_712_278)}
    for name, (giga, parameters) in pairs.items():
        summary = summary_of(name, 800, 800)
        assert (summary.macs / 1e9, summary.trainable) == (pytest.approx(giga, abs=1e-3), parameters)


def test_a_batch_multiplies_all_but_the_parameters():
    one, three = (summary_of("mobilenet_v1", 64, 96, batch) for batch in (None, 3))
    assert three.macs == 3 * one.macs
    assert three.parameters == one.parameters
    for name in ("Forward/backward pass size", "Input size"):
        assert three.megabytes()[name] == 3 * one.megabytes()[name]
    assert three.megabytes()["Params size"] == one.megabytes()["Params size"]
    assert "[3, 8, 32, 48]" in to_text(three)
    assert "[-1, 8, 32, 48]" in to_text(one)


def test_the_model_is_left_as_it_is_and_threads_do_not_meet():
    model = abstract(model_config("mobilenet_v1"))
    before = [(path, type(module), vars(module).keys()) for path, module in nnx.iter_modules(model)]
    with ThreadPoolExecutor(4) as pool:
        summaries = list(pool.map(lambda side: summarize(model, side, side), (32, 64, 32, 64)))
    assert summaries[0] == summaries[2] == summarize(model, 32, 32)
    assert summaries[1] == summaries[3] == summarize(model, 64, 64)
    assert [(path, type(module), vars(module).keys()) for path, module in nnx.iter_modules(model)] == before


def test_a_backbone_without_classifier_ends_at_its_last_map():
    assert summary_of("mobilenet_v1", 64, 64, num_classes=None).rows[-1].shape == (256, 2, 2)


def test_the_command_reads_a_folder_and_writes_json(tmp_path, capsys):
    model = abstract(model_config("mobilenet_v1", num_classes=3))
    zeros = {name: np.zeros(value.shape, value.dtype) for name, value in flatten(nnx.state(model)).items()}
    save(fill(model, zeros), tmp_path / "model")
    assert main(["summary", str(tmp_path / "model"), "--size", "64", "96", "--json"]) == 0
    of_folder = json.loads(capsys.readouterr().out)
    assert main(["summary", "mobilenet_v1", "--size", "64", "96", "--num-classes", "3", "--json"]) == 0
    of_name = json.loads(capsys.readouterr().out)
    assert of_folder["rows"] == of_name["rows"]
    assert of_name["rows"][-1]["shape"] == [3]
    assert of_name["model"] == "mobilenet_v1" and of_name["macs"] == sum(row["macs"] for row in of_name["rows"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet50", "--size", "0", "64"], "at least 1 pixel each, got 0 and 64"),
        (["resnet50", "--size", "64", "64", "--batch", "0"], "at least 1 image, got 0"),
        (["resnet50", "--size", "64", "64", "--num-classes", "0"], "--num-classes must be at least 1, got 0"),
        (["resnet5", "--size", "64", "64"], "did you mean 'resnet50'?"),
        (["fasterrcnn_resnet50_fpn", "--size", "1", "2000"], "has no pixels after resizing to 0x1333"),
        (["tests", "--size", "64", "64"], "tests is not a jaxdet model: it has no model.json"),
    ],
)
def test_a_users_mistake_is_one_line(arguments, message, capsys, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    assert main(["summary", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
