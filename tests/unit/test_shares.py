"""The benchmark that says where a step's time goes: its scopes and times, by hand."""

from __future__ import annotations

from benchmarks import shares

TEXT = """
%part (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %b = f32[8]{0} negate(%a), metadata={op_name="jit(step)/transpose(jvp(rpn))/neg"}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %layer = f32[8]{0} negate(%x), metadata={op_name="jit(step)/jvp(features)/neg"}
  %inside = f32[8]{0} negate(%layer), metadata={op_name="jit(step)/classify/vmap(roi_align)/neg"}
  %copied = f32[8]{0} copy(%inside)
  %made = f32[8]{0} fusion(%copied), kind=kLoop, calls=%part
  ROOT %update = f32[8]{0} add(%made, %x), metadata={op_name="jit(step)/add"}
}
"""


def test_scopes():
    found = shares.scopes(TEXT)
    assert found["layer"] == "features"
    assert found["inside"] == "roi_align"  # the innermost
    assert found["copied"] == "roi_align"  # no name: what it works on
    assert found["made"] == "rpn"  # no name: what it is made of
    assert found["update"] == shares.REST  # a name outside of all scopes


def test_own_times():
    events = [(0, 10, "loop"), (1, 4, "first"), (4, 9, "second"), (5, 6, "inner"), (20, 23, "later")]
    assert sorted(shares.own_times(events)) == [("first", 3), ("inner", 1), ("later", 3), ("loop", 2), ("second", 4)]
