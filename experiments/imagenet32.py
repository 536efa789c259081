"""The two releases of ImageNet at 32×32: different images, whose figures are never compared."""

import fiddle as fdl

from experiments.registry import experiment
from experiments.systems import DEPARTURES, I_DODE, published, variants

# The old release: `train_32x32.tar`, PNG files; twice as wide a network, in batches of 512.


@experiment(data="imagenet32_old", source=I_DODE, differs=DEPARTURES)
def imagenet32_old_vp() -> fdl.Config:
    """The system of cifar10_vp, twice as wide, scales to a million images: it comes to where
    fine-tuning takes it to the published 3.69 bpd.
    """
    from data.sources.imagenet32 import ImageNet32Old

    source = fdl.Config(ImageNet32Old)
    return published(source, features=256, batch_size=512, num_steps=2_000_000)


# The published 500 000 steps are micro-batches of 128, four to an optimiser step.
variants("imagenet32_old_vp", num_steps=125_000, accumulation=4, published=3.69)


# The new release: `Imagenet32_train.zip`, pickled batches; the same network, batches of 128.


@experiment(data="imagenet32_new", source=I_DODE, differs=DEPARTURES)
def imagenet32_new_vp() -> fdl.Config:
    """The network of imagenet32_old_vp, in a quarter of its batches, comes on the smoother images
    of the new release to where fine-tuning takes it to the published 3.43 bpd.
    """
    from data.sources.imagenet32 import ImageNet32New

    return published(fdl.Config(ImageNet32New), features=256, num_steps=2_000_000)


variants("imagenet32_new_vp", num_steps=250_000, published=3.43)
