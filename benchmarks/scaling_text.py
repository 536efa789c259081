"""What docs/scaling.md says between its tables."""

PREFACE = """\
# Scaling

How the published experiments would run on 8 GPUs, on a TPU slice of 16 chips and on 1 024 chips. No
such machine was at hand: **the times below are estimates**, formulas with assumed numbers.
`python -m benchmarks.scaling` writes this document; for other devices and settings,
`python launch/run.py --exp=NAME --describe --device=h100:8 --set mesh.fsdp=8`.

How far the formulas are tested: `tests/costs` compiles small networks (32 to 64 features, at most 3
blocks) on a CPU, where FLOPs agree with XLA's own analysis within 5 % and bytes within 10 %. Bytes
with `remat` are not tested there, since XLA's CPU backend keeps what is to be computed again; nor
are networks of the published size, GPUs, or any time. What a TPU's compiler finds for networks of
the published size stands beside the formula [below](#what-the-tpus-compiler-says).

## Formulas

| symbol | meaning |
|---|---|
| n | devices |
| B, b | images in a global batch; on each device, b = B / n |
| a | parts that a device goes through one after the other, `train.accumulation`; at most b |
| P | parameters; 4 bytes each, and as many for their average and each of two moments |
| F | FLOPs of the products in one evaluation of one image |
| k | passes: first order 3 (forward, backward by inputs and by weights); second order 6 |
| R | FLOPs of an image's products that `remat` computes again |
| A | bytes that one image keeps for the gradient, and in use while it is made, as it is run |
| U | the same if blocks were unrolled and everything kept |

| figure | formula |
|---|---|
| compute | B (k F + R) / (n · peak · {utilisation}) |
| memory | (10 c b U + 36 P) / (bandwidth · {bandwidth}); c = 4/3 with `remat`, else 1 |
| network | 2 (n − 1)/n · 4 P / (rate · {bandwidth}): one sum of the gradients, around a ring |
| step | max(compute, memory) + network: gradients are sent when all of them are there |
| memory each | 16 P + b A / a + images, and if a > 1 the sum of the parts' gradients, 4 P |
| images/s | B / step: what the input has to deliver |
| checkpoint | 16 P; the stall is 16 P / (20 GB/s): until one host has copied the state |
| steps | published steps · published B / B: as many images as published |
| whole run | steps · step; on all devices n times that |
| crossing | n · max(compute, memory) / network, with the rate between hosts; at least 8 on GPUs |

Images are h·w·c bytes and a flag of 4, which no digit shows. All the gradients are another 4 P, but
when they are there activations are gone, so that they add nothing at the worst moment. 36 P:
parameter, average, two moments and gradient are read, the first four written, 4 bytes each. The
factor 10 is XLA's count of the bytes accessed on small networks over the bytes that they keep, on
its CPU backend, which fuses less than others: `memory` is an upper bound. What is computed again is
written and read again: one more pass beside three, hence c. Whatever a is, a step moves as much.

**Assumed**: {utilisation} of the peak FLOP/s and {bandwidth} of the peak bandwidths are reached,
and 20 GB/s from a device's memory to the host's. Peaks, of one device:

{peaks}

They are the makers' figures (`diffusion_ode/costs/devices.py`), float32 products at XLA's default
precision: TF32 on GPUs, one bfloat16 pass on TPUs. TPUs are one slice.

The mesh is (data = n, fsdp = 1) everywhere: the state is at most a few GB, so dividing it saves
little memory beside the activations, and costs a gather of the parameters in every step. `settings`
are the first with which a step fits, on TPUs with half as much again, which their compiler may set
aside ([below](#what-the-tpus-compiler-says)). Experiments on straight paths cost what their
siblings cost.

**On 1 024 chips the small batches grow**, since every chip needs an image: `B` is then 1 024, and
the steps fewer, so that as many images are seen. That is another training than the published one:
its learning rate would have to be found anew.

## What breaks first

The column `breaks first` is the first of these that holds: the step does not fit whatever the
settings; the batch had to grow; the network takes longest; the step fits only with other settings
than published; the network will take as long as the rest at fewer devices (`crossing`) than the
batch has images; the batch has no image for more devices.

- **Memory, on few devices**: 32 blocks at full resolution keep much for the gradient. `remat` and
  `precision` trade it for time, each its own setting.
- **The batch, on many**: a device needs an image. Published batches of 128 end at 128 devices.
- **The network, in between**: a sum of the gradients takes as long on 1 024 chips as on 16, while
  the rest shrinks with n. GPUs send 9 to 12 times more slowly once there is a second host:
  `--device=h100:32` shows it.
- **Input** does not: `python -m benchmarks.input_pipeline` shows what one host delivers, to be
  compared with the images/s below divided by the number of hosts.
- **Checkpoints** do not: a stall every 10 000 steps. It is shorter than a step on few devices, not
  on many: a state is copied by one host however many there are, while steps become shorter, so that
  on 1 024 chips it can be several steps (column `stall`). Of 10 000 steps these are 0.1 % or less.

## The experiments
"""

TARGETS_PREFACE = """
## What the TPU's compiler says

The real training step, compiled for a slice by libtpu on a machine without a TPU: the compiler's
own analysis of its memory, and the collectives read off the compiled program. The times of
compiling are of two cores that other jobs used meanwhile: minutes where it has them for itself.
It compiled a middle attention that kept one array of scores, 4 MB an image, more than today's.

The formula counts what is in use at once, the compiler the areas that it sets aside. For gradients
and activations these are 5 to 47 % larger: 2.37 GB instead of 2.25 for 1 024 images of `digits_vp`
on a chip (1.8 GB in use by the compiler's count), 17.9 instead of 14.5 for `cifar10_vp`, 9.98
instead of 6.8 for `imagenet32_old_vp_finetune` with `KeepProducts()`, whose loops hold 6.9. **So a
row on TPUs may need half as much again as `memory each` says**, for which `settings` leave room.
With small batches and few features, which a TPU pads, it is more: twice the 26 MB of `digits_vp` on
8 chips. A TPU holds the last dimension of an array in lanes of 128; with fewer than
128 images on a chip that pads one array of each normalisation fourfold, and the formula counts it
so. `does not fit` is said where the compiler refuses the step, and where areas exceed the memory
without its count of the bytes in use saying otherwise."""

MEMORY_PREFACE = """
## Bytes and time by precision, rematerialisation, loop and accumulation

Four independent fields of a step, every combination, against the plain one in the first row (`×`).
The machine was shared with other work: **times are only indicative**, and of them the ratios rather
than the milliseconds. A CPU keeps what `remat` would compute again unless blocks are scanned; what
it saves shows on a TPU."""
