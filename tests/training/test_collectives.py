"""The reader of compiled text, on what XLA prints for different platforms."""

import textwrap

from diffusion_ode.training.collectives import Collective, collectives, total_bytes


def program(*lines: str, before: str = "") -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return (
        "HloModule jit_step, is_scheduled=true, num_partitions=8\n\n"
        f"{textwrap.dedent(before).strip()}\n\n"
        f"ENTRY %main.1 (p: f32[8]) -> f32[8] {{\n{body}\n}}\n"
    )


def test_bytes_are_those_of_the_whole_array():
    text = program(
        "%a = f32[64,256]{1,0} all-gather(%p), replica_groups=[2,4]<=[8], dimensions={0}",
        "%b = bf16[4,8]{1,0} reduce-scatter(%p), replica_groups={{0,1},{2,3},{4,5},{6,7}},"
        " to_apply=%add",
        "%c = (f32[64]{0}, f32[]) all-reduce(%p, %q), replica_groups=mesh['x'=4,'y'=2],"
        " device_ids=([2,4]T(1,0)) {'x'}, to_apply=%add",
    )
    assert collectives(text) == [
        Collective("all-gather", 65536, 1, devices=4),
        Collective("all-reduce", 260, 1, devices=4),
        Collective("reduce-scatter", 128, 1, devices=2),
    ]
    assert [row.sent_bytes for row in collectives(text)] == [49152.0, 390.0, 64.0]


def test_equal_collectives_are_counted_together_and_loops_by_their_rounds():
    loop = """
        %body.1 (q: f32[8]) -> f32[8] {
          %r = f32[8]{0} all-reduce(%q), replica_groups=[1,8]<=[8], to_apply=%add
        }
    """
    while_line = (
        'while(%p), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"5"}}'
    )
    text = program(
        f"%w = f32[8]{{0}} {while_line}",
        "%x = f32[8]{0} all-reduce(%w), replica_groups=[1,8]<=[8], to_apply=%add",
        "%alone = f32[999]{0} all-reduce(%w), replica_groups=[8,1]<=[8], to_apply=%add",
        before=loop,
    )
    assert collectives(text) == [Collective("all-reduce", 32, 6, devices=8)]
    assert total_bytes(collectives(text), "all-reduce") == 192


def test_both_halves_of_an_asynchronous_one_count_once():
    text = program(
        "%s = (f32[2]{0}, f32[16]{0}) all-gather-start(%p), replica_groups=[1,8]<=[8]",
        "%d = f32[16]{0} all-gather-done(%s)",
    )
    assert collectives(text) == [Collective("all-gather", 64, 1, devices=8)]


def test_fused_collectives_of_a_tpu_are_recognised():
    fused = """
        %all-reduce-scatter.1 (q: f32[32]) -> f32[8] {
          %r = f32[32]{0:T(256)} all-reduce(%q), channel_id=1, replica_groups=[2,4]<=[8]
          ROOT %s = f32[8]{0:T(256)} dynamic-slice(%r, %i), dynamic_slice_sizes={8}
        }

        %start (q: bf16[4]) -> bf16[16] {
          %g = bf16[16]{0:T(256)(2,1)S(1)} all-gather(%q), channel_id=1, replica_groups=[2,4]<=[8]
          ROOT %t = u32[]{:S(2)} custom-call(%g), custom_call_target="AsyncCollectiveStart"
        }

        %async_collective_fusion.2 (q: bf16[4]) -> bf16[16] {
          %h = bf16[16]{0:T(256)(2,1)S(1)} all-gather(%q), channel_id=1, replica_groups=[2,4]<=[8]
        }
    """
    text = program(
        "%f = f32[8]{0:T(256)} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1",
        "%g = u32[]{:S(2)} fusion(%p), kind=kCustom, calls=%start",
        "%h = u32[]{:S(2)} fusion(%p), kind=kLoop, calls=%async_collective_fusion.2",
        "%i = f32[1]{0} all-reduce(%p), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%add",
        before=fused,
    )
    assert collectives(text) == [
        Collective("reduce-scatter", 128, 1, devices=4),
        Collective("all-gather", 32, 1, devices=4),
        Collective("all-reduce", 4, 1, devices=8),
    ]


def test_a_program_of_one_device_sends_nothing():
    assert collectives("HloModule jit_f\n\nENTRY %main.1 (p: f32[]) -> f32[] {\n}\n") == []
