"""The handwritten digits that come with scikit-learn: small, always there, nothing to download."""

import torch
from torch.nn import functional as F

from pruning_lit.data.in_memory import ImagesInMemory, whole
from pruning_lit.data.parts import Parts, hold_out


class Digits(ImagesInMemory):
    """1,797 handwritten digits of 8×8 pixels, enlarged to 32×32 in three equal channels.

    One in five of each class (359 in all) is the test part, always the same; 1,438 are left for training.

    Args: see ``ImagesInMemory``.

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
    """

    always_shape = (3, 32, 32)
    always_classes = 10

    def read(self) -> Parts:
        """Decode the digits; their grey values are 0 … 16."""
        from sklearn.datasets import load_digits  # late: other data sets do without scikit-learn

        digits = load_digits()
        grey = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
        enlarged = F.interpolate(grey, size=(32, 32), mode="bilinear").round().to(torch.uint8)
        train, test = hold_out(whole(enlarged.repeat(1, 3, 1, 1), torch.from_numpy(digits.target).long()), 0.2, seed=0)
        return Parts([str(name) for name in digits.target_names], train, test)
