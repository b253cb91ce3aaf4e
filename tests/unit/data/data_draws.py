"""A generator whose draws are written down beforehand."""

import numpy as np


class Draws:
    """Stands in for numpy's Generator where a test wants particular numbers; one too many or too few is an error."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self, count=None):
        drawn = [self.numbers.pop(0) for _ in range(count or 1)]
        return np.array(drawn) if count else drawn[0]
