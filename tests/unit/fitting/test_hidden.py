"""The user is told what hides much of the face."""

from dataclasses import dataclass

import torch

from fitdiff_core.fitting.photo import FittedPhoto


@dataclass
class Read:
    found: dict

    def shares(self, face):
        return self.found


def photo(**found):
    fitted = object.__new__(FittedPhoto)
    object.__setattr__(fitted, "reading", Read({"hair over skin": 0.0, "glasses": 0.0, "other occluder": 0.0} | found))
    object.__setattr__(fitted, "regions", torch.ones(1, 4, 8, 8))
    return fitted


def test_little_is_not_told_and_much_is():
    assert photo(glasses=0.05).describe_hidden("a.jpg") == []
    (line,) = photo(**{"glasses": 0.2, "hair over skin": 0.31}).describe_hidden("a.jpg")
    assert line.startswith("a.jpg shows hair (31% of the face) and glasses (20% of the face)")
