"""What is read off a compiled program's text, on one written by hand."""

from jaxdet.planning import read_program
from jaxdet.planning.hlo import Shape

TEXT = """
HloModule jit_step, is_scheduled=true

%inner (a: f32[64,7,32], b: f32[64,32,32,256]) -> f32[64,7,32,256] {
  %a = f32[64,7,32]{2,1,0:T(8,128)} parameter(0)
  %b = f32[64,32,32,256]{3,2,1,0:T(8,128)} parameter(1)
  ROOT %convolution.1 = f32[64,7,32,256]{3,2,1,0:T(8,128)} convolution(%a, %b), window={size=1}, dim_labels=0bf_0io->0bf, metadata={op_name="jit(step)/while/body/roi"}
}

%body.1 (c: (s32[], f32[64])) -> (s32[], f32[64]) {
  %c = (s32[]{:T(128)}, f32[64]{0:T(128)}) parameter(0)
  %d = f32[64]{0:T(128)} get-tuple-element(%c), index=1
  %pooled = f32[64,7,32,256]{3,2,1,0} fusion(%d, %d), kind=kOutput, calls=%inner
  %all-gather-start.1 = (f32[64]{0}, f32[256]{0}) all-gather-start(%d), dimensions={0}, metadata={op_name="jit(step)/while/body/gathered"}
  %all-gather-done.1 = f32[256]{0} all-gather-done(%all-gather-start.1)
  ROOT %t = (s32[]{:T(128)}, f32[64]{0:T(128)}) tuple(%d, %d)
}

%condition.1 (e: (s32[], f32[64])) -> pred[] {
  %e = (s32[]{:T(128)}, f32[64]{0:T(128)}) parameter(0)
  ROOT %less = pred[]{:T(128)} constant(true)
}

ENTRY %main.1 (x: bf16[8,200,336,64], w: bf16[3,3,64,64], p: (s32[], f32[64])) -> bf16[8,200,336,64] {
  %x = bf16[8,200,336,64]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  %w = bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %p = (s32[]{:T(128)}, f32[64]{0:T(128)}) parameter(2)
  %while.1 = (s32[]{:T(128)}, f32[64]{0:T(128)}) while(%p), condition=%condition.1, body=%body.1, metadata={op_name="jit(step)/while"}, backend_config={"known_trip_count":{"n":"8"}}
  %all-reduce.1 = (bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)}, f32[]{:T(128)}, /*index=2*/pred[5]{0}) all-reduce(%w, %w, %w), channel_id=1, to_apply=%sum, metadata={op_name="jit(step)/gradient"}
  ROOT %convolution.2 = bf16[8,200,336,64]{3,2,1,0:T(8,128)(2,1)} convolution(%x, %w), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, metadata={op_name="jit(step)/backbone"}
}
"""  # noqa: E501


def test_collectives():
    gather, reduce = sorted(read_program(TEXT).collectives, key=lambda one: one.kind)
    assert (gather.kind, gather.in_loop, gather.bytes, gather.scope) == (
        "all-gather", True, 256 * 4, "jit(step)/while/body/gathered",
    )  # fmt: skip
    assert (reduce.kind, reduce.in_loop) == ("all-reduce", False)
    assert reduce.arrays == (Shape("bf16", (3, 3, 64, 64)), Shape("f32", ()), Shape("pred", (5,)))
    assert reduce.bytes == 2 * 3 * 3 * 64 * 64 + 4 + 5


def test_products_and_loops():
    program = read_program(TEXT)
    pooling, backbone = program.products
    assert pooling.in_loop and not backbone.in_loop  # also where a loop's body calls the computation that holds it
    assert [shape.dtype for shape in pooling.operands] == ["f32", "f32"]
    assert backbone.operands == (Shape("bf16", (8, 200, 336, 64)), Shape("bf16", (3, 3, 64, 64)))
    (loop,) = program.loops
    assert (loop.trips, loop.scope, loop.in_loop) == (8, "jit(step)/while", False)


def test_bytes_of_types():
    assert [Shape(dtype, (3,)).bytes for dtype in ("pred", "bf16", "s8", "u32", "f64", "f8e4m3fn", "s4")] == [
        3, 6, 3, 12, 24, 3, 2,
    ]  # fmt: skip
