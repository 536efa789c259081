"""The experiments, one file per data set; importing the package registers them.

They are imported after `registry`, which they register with; see there how one is written.
"""

from experiments import cifar10, digits, fashion_mnist, imagenet32, photos

__all__ = ["cifar10", "digits", "fashion_mnist", "imagenet32", "photos"]
