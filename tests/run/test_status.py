import pytest

from tsp.run.status import RankEnd, describe_exit, is_permanent, root_cause


@pytest.mark.parametrize(
    ("ends", "cause"),
    [
        ([], None),
        ([(0, 0), (1, 0)], None),
        ([(0, 0), (1, 3)], 1),
        ([(0, 150), (1, 137)], 1),
        ([(0, 143), (1, 150), (2, 1)], 2),
        ([(1, 137), (0, 1)], 1),
        ([(1, 150), (0, 143)], 1),
    ],
)
def test_the_first_end_that_reports_nobody_elses_is_the_cause(ends, cause):
    found = root_cause(RankEnd(*end) for end in ends)
    assert (None if found is None else found.rank) == cause


def test_codes_from_1_to_127_are_permanent():
    assert [code for code in range(-1, 256) if is_permanent(code)] == list(range(1, 128))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0 (done)"),
        (139, "exit code 139 (killed by signal 11)"),
        (151, "exit code 151 (store unreachable)"),
        (99, "exit code 99"),
        (128, "exit code 128"),
        (129, "exit code 129 (killed by signal 1)"),
        (159, "exit code 159 (killed by signal 31)"),
        (160, "exit code 160"),
    ],
)
def test_exit_codes_have_words(code, words):
    assert describe_exit(code) == words
