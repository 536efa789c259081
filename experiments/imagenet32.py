"""The two releases of ImageNet at 32×32: different images, whose figures are never compared."""

import fiddle as fdl

from experiments.registry import experiment
from experiments.systems import I_DODE, THEOREM, finetuned, published, straight

# The old release: `train_32x32.tar`, PNG files; twice as wide a network, in batches of 512.


@experiment(data="imagenet32_old", source=I_DODE)
def imagenet32_old_vp() -> fdl.Config:
    """The system of cifar10_vp, twice as wide, scales to a million images: it comes to where
    fine-tuning takes it to the published 3.69 bpd.
    """
    from data.sources.imagenet32 import ImageNet32Old

    source = fdl.Config(ImageNet32Old)
    return published(source, features=256, batch_size=512, num_steps=2_000_000)


@experiment(parent="imagenet32_old_vp", source=I_DODE)
def imagenet32_old_sp(config: fdl.Config) -> fdl.Config:
    """Straight paths reach the likelihood of imagenet32_old_vp."""
    return straight(config)


@experiment(parent="imagenet32_old_vp", source=THEOREM, published=3.69)
def imagenet32_old_vp_finetune(config: fdl.Config) -> fdl.Config:
    """The second-order loss improves the ODE's likelihood on a million images, too.

    The published 500 000 steps are micro-batches of 128, four to an optimiser step of 512 images.
    """
    return finetuned(config, "imagenet32_old_vp", num_steps=125_000, accumulation=4)


@experiment(parent="imagenet32_old_sp", source=THEOREM)
def imagenet32_old_sp_finetune(config: fdl.Config) -> fdl.Config:
    """The second-order loss does for straight paths what it does on imagenet32_old_vp_finetune."""
    return finetuned(config, "imagenet32_old_sp", num_steps=125_000, accumulation=4)


# The new release: `Imagenet32_train.zip`, pickled batches; the same network, in batches of 128.


@experiment(data="imagenet32_new", source=I_DODE)
def imagenet32_new_vp() -> fdl.Config:
    """The network of imagenet32_old_vp, in a quarter of its batches, comes on the smoother images
    of the new release to where fine-tuning takes it to the published 3.43 bpd.
    """
    from data.sources.imagenet32 import ImageNet32New

    return published(fdl.Config(ImageNet32New), features=256, num_steps=2_000_000)


@experiment(parent="imagenet32_new_vp", source=I_DODE)
def imagenet32_new_sp(config: fdl.Config) -> fdl.Config:
    """Straight paths reach the likelihood of imagenet32_new_vp."""
    return straight(config)


@experiment(parent="imagenet32_new_vp", source=THEOREM, published=3.43)
def imagenet32_new_vp_finetune(config: fdl.Config) -> fdl.Config:
    """The second-order loss improves the ODE's likelihood on the new release as on the old."""
    return finetuned(config, "imagenet32_new_vp", num_steps=250_000)


@experiment(parent="imagenet32_new_sp", source=THEOREM)
def imagenet32_new_sp_finetune(config: fdl.Config) -> fdl.Config:
    """The second-order loss does for straight paths what it does for imagenet32_new_vp_finetune."""
    return finetuned(config, "imagenet32_new_sp", num_steps=250_000)
