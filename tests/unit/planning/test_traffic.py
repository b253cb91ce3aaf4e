"""Traffic of the chip's memory, on a program written by hand."""

import pytest

from jaxdet.planning import read_program

KB = 1024  # bytes of f32[256]
TEMPLATE = """
HloModule jit_step, is_scheduled=true

%sliced (a: f32[64,256], i: s32[]) -> f32[1,256] {{
  %a = f32[64,256]{{1,0}} parameter(0)
  %i = s32[] parameter(1)
  %view = f32[64,256]{{1,0}} bitcast(%a)
  ROOT %piece = f32[1,256]{{1,0}} dynamic-slice(%view, %i), dynamic_slice_sizes={{1,256}}
}}

%around (a.1: f32[64,256], i.1: s32[]) -> f32[1,256] {{
  %a.1 = f32[64,256]{{1,0}} parameter(0)
  %i.1 = s32[] parameter(1)
  ROOT %inner = f32[1,256]{{1,0}} fusion(%a.1, %i.1), kind=kLoop, calls=%sliced
}}

%added (b: f32[64,256], u: f32[1,256], j: s32[]) -> f32[64,256] {{
  %b = f32[64,256]{{1,0}} parameter(0)
  %u = f32[1,256]{{1,0}} parameter(1)
  %j = s32[] parameter(2)
  %old = f32[1,256]{{1,0}} dynamic-slice(%b, %j), dynamic_slice_sizes={{1,256}}
  %sum = f32[1,256]{{1,0}} add(%old, %u)
  ROOT %new = f32[64,256]{{1,0}} dynamic-update-slice(%b, %sum, %j)
}}

%converted (e: f32[64,256]) -> bf16[64,256] {{
  %e = f32[64,256]{{1,0}} parameter(0)
  ROOT %narrow = bf16[64,256]{{1,0}} convert(%e)
}}

%viewed (f: f32[64,256]) -> f32[64,256] {{
  %f = f32[64,256]{{1,0}} parameter(0)
  ROOT %same = f32[64,256]{{1,0}} bitcast(%f)
}}

%nested (g: f32[64,256]) -> f32[64,256] {{
  %g = f32[64,256]{{1,0}} parameter(0)
  %h = f32[64,256]{{1,0}} fusion(%g), kind=kLoop, calls=%viewed
  ROOT %less.1 = f32[64,256]{{1,0}} negate(%h)
}}

%behind (l: f32[64,256], w: bf16[1,256], m: s32[]) -> bf16[64,256] {{
  %l = f32[64,256]{{1,0}} parameter(0)
  %w = bf16[1,256]{{1,0}} parameter(1)
  %m = s32[] parameter(2)
  %other = bf16[64,256]{{1,0}} convert(%l)
  ROOT %newer = bf16[64,256]{{1,0}} dynamic-update-slice(%other, %w, %m)
}}

%both (o: f32[64,256], z: f32[1,256], i.2: s32[]) -> (f32[64,256], f32[1,256]) {{
  %o = f32[64,256]{{1,0}} parameter(0)
  %z = f32[1,256]{{1,0}} parameter(1)
  %i.2 = s32[] parameter(2)
  %part = f32[1,256]{{1,0}} dynamic-slice(%o, %i.2), dynamic_slice_sizes={{1,256}}
  %full = f32[64,256]{{1,0}} dynamic-update-slice(%o, %z, %i.2)
  ROOT %two = (f32[64,256]{{1,0}}, f32[1,256]{{1,0}}) tuple(%full, %part)
}}

%body (s: (s32[], f32[64,256])) -> (s32[], f32[64,256]) {{
  %s = (s32[], f32[64,256]{{1,0}}) parameter(0)
  %c = f32[64,256]{{1,0}} get-tuple-element(%s), index=1
  %d = f32[64,256]{{1,0}} negate(%c)
  ROOT %t = (s32[], f32[64,256]{{1,0}}) tuple(%s, %d)
}}

%condition (s.1: (s32[], f32[64,256])) -> pred[] {{
  %s.1 = (s32[], f32[64,256]{{1,0}}) parameter(0)
  %turn = s32[] get-tuple-element(%s.1), index=0
  %eight = s32[] constant(8)
  ROOT %less = pred[] compare(%turn, %eight), direction=LT
}}

%short (q: f32[64,256]) -> f32[64,256] {{
  %q = f32[64,256]{{1,0:T(8,128)S(1)}} parameter(0)
  ROOT %k = f32[64,256]{{1,0:T(8,128)S(1)}} negate(%q)
}}

%long (q.1: f32[64,256]) -> f32[64,256] {{
  %q.1 = f32[64,256]{{1,0}} parameter(0)
  ROOT %k.1 = f32[64,256]{{1,0}} negate(%q.1)
}}

ENTRY %main (x: f32[64,256], y: f32[64,256], n: s32[], p: (s32[], f32[64,256]), r: s32[2,1], v: f32[2,256]) -> f32[] {{
  %x = f32[64,256]{{1,0}} parameter(0)
  %y = f32[64,256]{{1,0:T(8,128)S(1)}} parameter(1)
  %n = s32[]{{:S(1)}} parameter(2)
  %p = (s32[], f32[64,256]{{1,0}}) parameter(3)
  %r = s32[2,1]{{1,0:S(1)}} parameter(4)
  %v = f32[2,256]{{1,0}} parameter(5)
  %one = f32[1,256]{{1,0:S(1)}} constant({{...}})
  ROOT %result = {instruction}
}}
"""
WHOLE = 64 * KB
F = "f32[64,256]{1,0}"


@pytest.mark.parametrize(
    "instruction, expected",
    [
        (f"{F} negate(%x)", 2 * WHOLE),
        (f"{F} negate(%y)", WHOLE),  # y lies on the core
        ("f32[64,256]{1,0:T(8,128)S(1)} negate(%y)", 0),
        (f"{F} add(%x, %x)", 3 * WHOLE),
        (f"{F} bitcast(%x)", 0),
        (f"{F} copy(%x)", 2 * WHOLE),
        ("bf16[64,256]{1,0} fusion(%x), kind=kLoop, calls=%converted", WHOLE + WHOLE // 2),
        (f"{F} fusion(%x), kind=kLoop, calls=%nested", 2 * WHOLE),
        ("bf16[64,256]{1,0} fusion(%x, %one, %n), kind=kLoop, calls=%behind", WHOLE + WHOLE // 2),  # not in place
        (f"({F}, f32[1,256]{{1,0}}) fusion(%x, %one, %n), kind=kLoop, calls=%both", 3 * KB),  # written, read, written
        (f'{F} custom-call(), custom_call_target="AllocateBuffer"', 0),
        (f"({F}, {F}, u32[], u32[]) collective-permute-start(%x)", 2 * WHOLE),
        ("f32[1,256]{1,0} dynamic-slice(%x, %n), dynamic_slice_sizes={1,256}", 2 * KB),
        ("f32[1,256]{1,0:S(1)} fusion(%x, %n), kind=kLoop, calls=%sliced", KB),
        ("f32[1,256]{1,0:S(1)} fusion(%x, %n), kind=kLoop, calls=%around", KB),
        (f"{F} fusion(%x, %one, %n), kind=kLoop, calls=%added", 2 * KB),  # in place: the old row is read
        (f"{F} dynamic-update-slice(%x, %one, %n)", KB),
        (f"{F} scatter(%x, %r, %v), to_apply=%short", (2 + 1) * 2 * KB),  # two rows: read, written; and the updates
        ("f32[2,256]{1,0} gather(%x, %r), slice_sizes={1,256}", 2 * 2 * KB),
        (f"({F}, f32[64,256]{{1,0:T(8,128)S(1)}}, u32[]) copy-start(%y)", WHOLE),
        (f"({F}, {F}, u32[]) copy-start(%x)", 2 * WHOLE),  # from the chip's memory to the chip's memory
        (f"(({F}), f32[8,256]{{1,0:S(1)}}, s32[]) slice-start(%x), slice={{[0:8], [0:256]}}", 8 * KB),
        ("f32[8,256]{1,0:S(1)} slice-done(%x)", 0),
        (f"(s32[], {F}) while(%p), condition=%condition, body=%body", 8 * 2 * WHOLE),
        (f"{F} conditional(%n, %y, %x), branch_computations={{%short, %long}}", 2 * WHOLE),
    ],
)
def test_traffic(instruction, expected):
    assert read_program(TEMPLATE.format(instruction=instruction)).traffic == expected
