"""Images as ``np.asarray(Image.open(...))`` gives them cannot be written to; PyTorch warns of such arrays."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from jaxdet_convert.parity import calibration, classifier, listen  # noqa: E402


@pytest.fixture(autouse=True)
def every_warning_is_given():
    """PyTorch warns once a process; the tests' warnings are errors."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_read_only_images_become_tensors(dtype):
    image = np.ones((4, 5, 3), dtype)
    image.flags.writeable = False
    with listen.evaluating(torch.nn.Conv2d(3, 1, 1)) as to_input:
        assert to_input(image).shape == (3, 4, 5)
    if dtype == np.uint8:
        assert calibration.image_tensor(image).max() == 1 / 255
    # A single channel: transposed, it is still the same memory.
    grey = np.ones((4, 5, 1), np.float32)
    grey.flags.writeable = False
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 2))
    maps, logits = classifier.trace_torch(module, (), grey, ("{name}",))
    assert maps == {} and logits.shape == (2,)
