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
  %pooled = f32[64,7,32,256]{3,2,1,0} fusion(%d, %d), kind=kOutput, calls=%inner, backend_config={"estimated_cycles":"100"}
  %moved = f32[64]{0:T(128)} copy(%d), backend_config={"estimated_cycles":"5"}
  %all-gather-start.1 = (f32[64]{0}, f32[256]{0}) all-gather-start(%d), dimensions={0}, metadata={op_name="jit(step)/while/body/gathered"}
  %all-gather-done.1 = f32[256]{0} all-gather-done(%all-gather-start.1)
  ROOT %t = (s32[]{:T(128)}, f32[64]{0:T(128)}) tuple(%d, %d)
}

%condition.1 (e: (s32[], f32[64])) -> pred[] {
  %e = (s32[]{:T(128)}, f32[64]{0:T(128)}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%e), index=0
  %eight = s32[]{:T(128)} constant(8)
  ROOT %less = pred[]{:T(128)} compare(%turn, %eight), direction=LT
}

%condition.2 (h: (s32[], f32[64])) -> pred[] {
  %h = (s32[]{:T(128)}, f32[64]{0:T(128)}) parameter(0)
  ROOT %until = pred[]{:T(128)} constant(true)
}

%short (q: s32[]) -> s32[] {
  %q = s32[] parameter(0)
  ROOT %i = s32[] fusion(%q), calls=%inner, backend_config={"estimated_cycles":"30"}
}

%long (q: s32[]) -> s32[] {
  %q = s32[] parameter(0)
  ROOT %j = s32[] fusion(%q), calls=%inner, backend_config={"estimated_cycles":"70"}
}

ENTRY %main.1 (x: bf16[8,200,336,64], w: bf16[3,3,64,64], p: (s32[], f32[64])) -> bf16[8,200,336,64] {
  %x = bf16[8,200,336,64]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  %w = bf16[3,3,64,64]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %p = (s32[]{:T(128)}, f32[64]{0:T(128)}) parameter(2)
  %while.1 = (s32[]{:T(128)}, f32[64]{0:T(128)}) while(%p), condition=%condition.1, body=%body.1, metadata={op_name="jit(step)/while"}, frontend_attributes={}
  %while.2 = (s32[]{:T(128)}, f32[64]{0:T(128)}) while(%p), condition=%condition.2, body=%body.1, metadata={op_name="jit(step)/until"}
  %while.3 = (s32[]{:T(128)}, f32[64]{0:T(128)}) while(%p), condition=%condition.2, body=%body.1, metadata={op_name="jit(step)/told"}, backend_config={"known_trip_count":{"n":"3"}}
  %chosen = s32[] conditional(%w, %x, %x), branch_computations={%short, %long}
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
    assert [(loop.trips, loop.scope) for loop in program.loops] == [
        (8, "jit(step)/while"), (None, "jit(step)/until"), (3, "jit(step)/told"),
    ]  # fmt: skip
    assert not any(loop.in_loop for loop in program.loops)


def test_a_loop_that_counts_otherwise_has_no_known_trips():
    assert read_program(TEXT.replace("direction=LT", "direction=GT")).loops[0].trips is None


def test_an_all_reduce_that_is_only_started_gives_its_results_alone():
    """Others that are started give their operands back first."""
    started = read_program(TEXT.replace(" all-reduce(", " all-reduce-start("))
    assert started.collectives == read_program(TEXT).collectives


def test_copies_and_cycles():
    program = read_program(TEXT)
    assert [(copy.shape, copy.in_loop) for copy in program.copies] == [(Shape("f32", (64,)), True)]
    assert program.cycles == (8 + 1 + 3) * (100 + 5) + 70  # every turn that is known of, and the longer branch


def test_bytes_of_types():
    assert [Shape(dtype, (3,)).bytes for dtype in ("pred", "bf16", "s8", "u32", "f64", "f8e4m3fn", "s4")] == [
        3, 6, 3, 12, 24, 3, 2,
    ]  # fmt: skip
