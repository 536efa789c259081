"""Fashion-MNIST: 28×28 grey pictures of clothes, 256 levels; an hour or so on two cores."""

import fiddle as fdl

from experiments.registry import experiment
from experiments.systems import I_DODE, THEOREM, finetuned, gently, small, straight


@experiment(data="fashion_mnist", source=I_DODE)
def fashion_mnist_vp() -> fdl.Config:
    """An hour on two cores takes a small variance-preserving diffusion ODE well below what
    independent pixels (4.587 bpd) and lossless WebP (4.051 bpd) take for clothes.
    """
    from data.sources.fashion_mnist import FashionMnist

    return small(fdl.Config(FashionMnist), features=32, num_steps=2000)


@experiment(parent="fashion_mnist_vp", source=I_DODE)
def fashion_mnist_sp(config: fdl.Config) -> fdl.Config:
    """On Fashion-MNIST, straight paths reach the likelihood of the variance-preserving one."""
    return straight(config)


@experiment(parent="fashion_mnist_vp", source=THEOREM)
def fashion_mnist_vp_finetune(config: fdl.Config) -> fdl.Config:
    """The second-order loss improves the likelihood of fashion_mnist_vp."""
    return finetuned(config, "fashion_mnist_vp", num_steps=500, optimizer=gently())


@experiment(parent="fashion_mnist_sp", source=THEOREM)
def fashion_mnist_sp_finetune(config: fdl.Config) -> fdl.Config:
    """The second-order loss improves the likelihood of fashion_mnist_sp."""
    return finetuned(config, "fashion_mnist_sp", num_steps=500, optimizer=gently())
