"""The step's tables are written as they come, and a variant that cannot run is a row."""

import torch

from benchmarks import bench_step
from benchmarks.bench_step import Table, data_wait_table, step_table
from benchmarks.step_variants import Shape, Variant

CPU = torch.device("cpu")


def test_a_table_is_on_disk_before_its_next_line_is_measured(tmp_path):
    path = tmp_path / "step.md"

    def lines():
        yield "first"
        assert path.read_text() == "first\n"
        yield "second"

    Table(path).add(lines())
    assert path.read_text() == "first\nsecond\n"


def test_a_way_that_cannot_run_is_a_row_and_the_next_is_measured(monkeypatch):
    def measure(backbone, shape, variant, device, steps):
        if variant.compile:
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")
        return 0.5, 1.0, None

    monkeypatch.setattr(bench_step, "measure", measure)
    variants = (Variant("compiled", compile=True), Variant("plain"))
    rows = list(step_table("tiny", Shape(2, 4, 16), variants, CPU, 1))[4:]
    assert rows[0].startswith("| compiled | InvalidCxxCompiler: No working C++ compiler")
    assert rows[1] == "| plain | 500.0 | 4.0 | 1.00x |  |"


def test_a_way_without_a_compiler_is_a_row_of_the_data_wait_table(monkeypatch):
    def data_wait(backbone, batch, variant, device, config):
        if variant.compile:
            raise RuntimeError("no compiler")
        return 7.0, 0.25

    monkeypatch.setattr(bench_step, "data_wait", data_wait)
    monkeypatch.setattr(bench_step, "draw_demo", lambda *_: None)
    rows = list(data_wait_table((Variant("compiled", compile=True), Variant("plain")), CPU, workers=1))[6:]
    assert rows == ["| compiled | no compiler | |", "| plain | 7.0 | 25.0 % |", ""]
